"""Make docs/benchmarks.md from benchmarks/results/*.json: `python benchmarks/make_page.py`."""

from pathlib import Path

from cryoloom.data.files import replacing
from cryoloom.evaluate.bench.page import make_page

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    page = ROOT / "docs/benchmarks.md"
    with replacing(page) as temporary:
        temporary.write_text(make_page(ROOT / "benchmarks/results", ROOT / "docs/images"))
    print(f"wrote {page.relative_to(ROOT)}")
