"""Any other text model that transformers has built in: it computes, the host holds the weights.

Only transformers' public interface is used, and no code that comes with a model is ever run.
"""
