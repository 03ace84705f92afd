"""Cases: what is decided, told as a short story, without actors or stores.

`sagas`: a saga that is begun, answered, left alone, and crashed wherever one likes.
"""
