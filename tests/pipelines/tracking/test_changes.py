"""The patch of what was not committed: complete, applicable, and without secrets."""

import json

import pytest

from pipelines.project import workspace
from pipelines.tracking import changes as module
from pipelines.tracking.changes import changes, holds_secret
from pipelines.tracking.git import git as pipelines_git
from pipelines.tracking.lineage import public_address
from pipelines.tracking.origin import pack
from tests.pipelines.repository import commit, git, write


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    write(folder, params_dot_yaml="seed: 0\n", code_dot_py="a = 1\n", gone_dot_txt="x\n", _dot_gitignore="ignored/\n")
    (folder / "image.bin").write_bytes(bytes(range(256)))
    commit(folder)
    return folder


def test_the_patch_brings_the_commit_to_the_same_files(project, tmp_path):
    write(project, params_dot_yaml="seed: 1\n", pipelines__new_dot_py="b = 2\n", ignored__x="no\n")
    (project / "gone.txt").unlink()
    (project / "image.bin").write_bytes(bytes(reversed(range(256))))
    (project / "with space ü.txt").write_text("without a line's end")
    git(project, "add", "code.py")
    before = git(project, "status", "--porcelain"), git(project, "count-objects")
    found = changes(project)
    assert found.left_out == {}
    assert (
        git(project, "status", "--porcelain"),
        git(project, "count-objects"),
    ) == before  # index and objects untouched

    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(project), str(again))
    pipelines_git(again, "apply", "-", feed=found.patch)
    listed = {
        folder: {
            p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts
        }
        for folder in (project, again)
    }
    (kept_out,) = listed[project].keys() - listed[again].keys()
    assert str(kept_out) == "ignored/x"
    assert all(listed[project][name] == content for name, content in listed[again].items())


def test_nothing_differs_after_a_commit_but_for_what_stages_write(project):
    write(project, dvc_dot_lock="stages: {}\n")
    assert changes(project) == module.Changes()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (".env", "A=1", "by its name"),
        ("deploy.key", "0123456789", "by its name"),
        ("cluster.yaml", "tracking:\n  uri: http://ada:hunter22@mlflow:5000\n", "password"),
        ("settings.ini", "aws_secret_access_key = abcdefghijklmnop\n", "password"),
        ("notes.txt", "AKIAABCDEFGHIJKLMNOP", "password"),
        ("job.sh", "export HF_TOKEN=qwertyuiopasdfgh\n", "password"),
        ("job.sh", "MLFLOW_TRACKING_TOKEN=0123456789abcdef\n", "password"),
        ("cluster.yaml", "hub:\n  token: ghp_0123456789abcdefghij0123456789abcdef\n", "password"),
        ("requirements.txt", "pkg @ git+https://ghp_0123456789abcdefghij@github.com/a/b\n", "password"),
        ("load.py", 'login(token="hf_abcdefghijklmnop")\n', "password"),
        ("load.py", 'login("hf_abcdefghijklmnopqrstuvwx")\n', "password"),
        ("load.py", 'os.environ["HF_TOKEN"] = "qwertyuiop"\n', "password"),
        ("load.py", 'TOKEN: str = "qwertyuiop"\n', "password"),
        ("load.py", 'run("serve", "--password", "hunter2hunter")\n', "password"),
        ("Makefile", "serve:\n\tserve --mlflow-password hunter2hunter\n", "password"),
        ("chat.md", "sk-proj-0123456789abcdefghij", "password"),
        ("chat.md", "xoxb-123456789012-abcdefghijkl", "password"),
        ("ask.sh", "curl -H 'Authorization: Bearer abcdefghijkl' $URL\n", "password"),
        ("ask.py", 'headers = {"Authorization": "Bearer abcdefghijkl"}\n', "password"),
        ("ask.py", 'ask("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmVk")\n', "password"),
        ("cluster.yaml", "user: ada\npassword: hunter2\nport: 5000\n", "password"),
        ("cluster.json", '{"user": "ada",\n "password": "hunter2"\n}\n', "password"),
        ("try.ipynb", r"""{"source": ["os.environ[\"HF_TOKEN\"] = \"qwertyuiop\"\n"]}""", "password"),
        ("tokens.txt", "qwertyuiop", "by its name"),
        ("id_rsa", "0123456789", "by its name"),
        ("large.bin", "x" * (module.LARGEST + 1), "larger than 1 MiB"),
    ],
)
def test_what_may_be_a_secret_or_is_large_is_named_and_left_out(project, name, content, why):
    write(project, code_dot_py="token = next(tokens)\npassword = ask_for_it()\n")
    (project / name).write_text(content)
    found = changes(project)
    assert why in found.left_out[name]
    assert content.encode() not in found.patch
    assert b"ask_for_it" in found.patch  # the rest is kept


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.py", 'tokenizer = load("bert-base-uncased")\ntoken = next(tokens)\n'),
        ("id_map.py", 'parser.add_argument("--token", help="of_the_hub")\ntoken = f"{prefix}-{number}"\n'),
        ("secrets.sh", "TOKEN=$(cat $HOME/.token)\nTOKEN=${HF_TOKEN}\nserve --password-file $FILE --token=<TOKEN>\n"),
        ("ask.sh", 'curl -H "Authorization: Bearer $TOKEN" -H "Authorization: Bearer <token>" $URL\n'),
        ("schema.yaml", "password: null\ntoken: null\nkeys: {password: str, user: str}\n"),
        ("try.ipynb", r"""{"source": ["print(\"token: \")\n", "login(token=\"\")\n"]}"""),
        ("pod.yaml", "secret:\n  secretName: registry-credentials\nremote: ssh://git@github.com/a/b\n"),
        ("README.md", "A token is a word. See https://example.org/tokens and ada@example.org\n"),
    ],
)
def test_what_only_speaks_of_secrets_is_kept(project, name, content):
    write(project, **{name.replace(".", "_dot_"): content})
    found = changes(project)
    assert found.left_out == {}
    assert b"+" + content.splitlines()[0].encode() in found.patch


def test_this_projects_own_files_would_be_kept():
    """All that git tracks, but for these, which hold something made up or speak of the form of an address."""
    tracked = pipelines_git(workspace(), "ls-files", "-z", "--", ":!tests").decode().split("\0")
    there = [name for name in tracked if (workspace() / name).is_file()]
    found = {name for name in there if holds_secret(name, (workspace() / name).read_bytes())}
    assert found <= {"infra/README.md", "pipelines/tracking/refusals.py"}


def test_a_password_in_params_yaml_is_not_kept_beside_the_patch_either(project, tmp_path):
    write(project, params_dot_yaml="seed: 0\n# password: hunter2hunter\n", dvc_dot_lock="stages: {}\n")
    commit(project)
    tags = pack(project, tmp_path / "packed")
    assert {path.name for path in (tmp_path / "packed").iterdir()} == {"environment.txt", "dvc.lock"}
    assert json.loads(tags["git.left_out"]) == {"params.yaml": "it seems to hold a password or a key"}


def test_a_changed_password_in_a_tracked_file_is_left_out(project):
    write(project, cluster_dot_yaml="uri: http://ada:hunter22@mlflow:5000\n")
    commit(project)
    write(project, cluster_dot_yaml="uri: null\n")
    found = changes(project)
    assert list(found.left_out) == ["cluster.yaml"]
    assert found.patch == b""


@pytest.mark.parametrize(
    ("remote", "told"),
    [
        ("https://ada:token@example.org/team/x.git", "https://example.org/team/x.git"),
        ("https://token@example.org/x", "https://example.org/x"),
        ("https://example.org/x?key=1", "https://example.org/x"),
        ("ssh://git:pw@example.org:22/x", "ssh://git@example.org:22/x"),
        ("https://ada@example.com:to@ken@example.org/x", "https://example.org/x"),
        ("https://ada:to/ken@example.org/x", ""),
        ("ssh://git:p@w@example.org/x", "ssh://git@example.org/x"),
        ("ssh://git:p/w@example.org/x", ""),
        ("git@example.org:team/x.git", "git@example.org:team/x.git"),
        ("../elsewhere/x", ""),
        ("file:///srv/x", ""),
        ("", ""),
    ],
)
def test_a_remotes_address_is_told_without_credentials(remote, told):
    assert public_address(remote) == told
