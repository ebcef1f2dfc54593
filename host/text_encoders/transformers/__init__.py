"""Any other text model that transformers has built in, on weights that the host moves.

Only transformers' public interface is used, and no code that comes with a model is ever run.
"""
