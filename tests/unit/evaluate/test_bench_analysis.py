"""The made-up run on which `analyze` is timed."""

from cryoloom.evaluate.bench import analysis
from cryoloom.evaluate.bench.catalogue import tables
from cryoloom.evaluate.bench.measure import Measured, Workbench
from cryoloom.evaluate.bench.tables import Notebook
from cryoloom.solve.decode import Decoder
from cryoloom.solve.run import Run


class Timed(Workbench):
    """A bench whose commands take 70 seconds."""

    def cryoloom(self, name: str, *arguments: object) -> Measured:
        self.commands.append(" ".join(map(str, arguments)))
        return Measured(70, 1, 1)


def test_the_run_is_one_that_can_be_analysed(tmp_path):
    book = Notebook(Timed(tmp_path, tmp_path, "x"), analysis.Sizes(60, 2, 16), tmp_path, lambda _: None)
    analysis.landscape(book)
    assert book.bench.commands == ["analyze run --no-umap"]
    assert (book.rows[0].value, book.rows[0].must, book.rows[0].ok) == (70, 60, False)
    assert Run.open(tmp_path / "run").finished
    decoder = Decoder.of_run(tmp_path / "run")
    assert decoder.z.shape == (60, 2)
    assert decoder.volume(decoder.z[0]).shape == (16, 16, 16)
    assert set(tables()["analyze"].scales) == {"mini", "quick"}
