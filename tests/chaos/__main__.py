import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(__file__).resolve().parents[1] / "e2e")]

from chaos import rounds, soak  # noqa: E402

sys.exit(soak.main(sys.argv[2:]) if sys.argv[1:2] == ["soak"] else rounds.main())
