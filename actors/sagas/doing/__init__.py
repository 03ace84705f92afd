"""Sagas carried out: `parts` (what their actors share), `facts` (one saga as plain data), `actor`
(one saga), `index` (which there are), `sagas` (how others reach them), `serving` (who
carries out what they say), `administration` (what a person may decide).
"""
