"""What may be said when two models were measured: which numbers may be compared, and which is better.

cards        whether two numbers were measured in the same way
measurement  one evaluation of a model: its numbers, its cards, its table of images
metrics      the numbers that are compared, and in which direction they are good
verdict      better, worse or not distinguishable, with the probability
gate         whether a version becomes champion
recipes      versions that differ in nothing but seeds, together
choice       which versions are meant
side_by_side the versions in columns, grouped by card
text         that as a table for the terminal, Markdown or CSV
page         that as one file of HTML
"""
