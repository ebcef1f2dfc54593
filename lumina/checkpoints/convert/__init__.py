"""Model files written anew: a text encoder's folder as one file, in pieces of bounded size."""
