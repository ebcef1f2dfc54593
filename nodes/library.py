"""Where the editor's node library lists this pack, and the words that find all of its nodes."""

# One folder of the pack's own: under the host's categories its nodes lie among those of all packs.
CATEGORY = "Lumina-Next"
ALIASES = ["lumina", "lumina next"]
