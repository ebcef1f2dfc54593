"""Jobs on a running host: odd graphs, interrupts, errors in a layer, load, and their pictures."""
