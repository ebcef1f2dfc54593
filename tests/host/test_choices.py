"""What ComfyUI hands over for a dynamic choice."""

import pytest

from lumina_next.host.choices import chosen


def test_choice_comes_apart_from_its_own_inputs():
    given = {"solver": "dopri5", "rtol": 0.1}
    assert chosen(given, "preset.solver", ["dopri5"]) == ("dopri5", {"rtol": 0.1})
    assert given == {"solver": "dopri5", "rtol": 0.1}


@pytest.mark.parametrize("given", [None, {}, {"solver": "absent"}, {"rtol": 0.1}])
def test_what_is_not_in_the_list_is_answered_with_the_list(given):
    with pytest.raises(ValueError, match='"preset.solver" is missing or .* It can be: euler, rk4.'):
        chosen(given, "preset.solver", ["euler", "rk4"])
