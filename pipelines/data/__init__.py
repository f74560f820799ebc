"""From raw images to uint8 shards, and back out of them.

    sources (digits, folder) -> reading -> collect -> split -> shards, table, manifest -> dataset

`sources.py` holds the interface that a source of images keeps; `dataset.py` is what the other stages read.
"""
