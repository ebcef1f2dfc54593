"""A scene that the tests draw and read."""

from lumina_next.demo.scenes import drawing

RED_CIRCLE = drawing.Thing("circle", "red", "top left")
BLUE_SQUARE = drawing.Thing("square", "blue", "bottom right")
PAIR = drawing.Scene("white", (RED_CIRCLE, BLUE_SQUARE))
