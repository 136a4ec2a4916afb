"""Pages of the documentation whose gaps the code fills in."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
GAP = r"^<!-- (help|settings|cost) \w+ -->$"


@pytest.fixture(scope="module")
def hooks():
    if not (DOCS / "hooks.py").is_file():
        pytest.skip("needs a checkout with docs/hooks.py")
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_gap_of_every_page_is_filled(hooks):
    pages = [text for page in DOCS.rglob("*.md") if re.search(GAP, text := page.read_text(), re.M)]
    assert len(pages) > 3
    for text in pages:
        filled = hooks.on_page_markdown(text)
        assert not re.search(GAP, filled, re.M)
        assert len(filled) > len(text)


def test_the_cost_of_loom_grows_with_the_band(hooks):
    table = [line.split(" | ") for line in hooks.on_page_markdown("<!-- cost loom -->").splitlines()[2:]]
    numbers = {name.strip("| "): [float(part.strip("| ").replace(",", "")) for part in row] for name, *row in table}
    assert numbers["rotations G"] == [4608, 4608]
    for name, (first, last) in numbers.items():
        assert first < last or name == "rotations G"
