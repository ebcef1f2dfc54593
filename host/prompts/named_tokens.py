"""Tokens under the names of their encoders, which say what there is where others are asked for."""


class NamedTokens(dict[str, object]):
    """What `clip.tokenize` returns: {encoder: batches of tokens}.

    Nodes made for CLIP models ask for `tokens["l"]`; their KeyError becomes a sentence.
    """

    def __missing__(self, name: str) -> object:
        raise KeyError(
            f'The text encoder has no tokens of "{name}", only of {", ".join(self)}: the node that '
            'asks for them is made for CLIP models. Encode the prompt with "CLIP Text Encode".'
        )
