import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(__file__).resolve().parents[1] / "e2e")]

from chaos import rounds, soak, storm  # noqa: E402

if sys.argv[1:3] == ["soak", "--faults"]:
    sys.exit(storm.main(sys.argv[3:]))
sys.exit(soak.main(sys.argv[2:]) if sys.argv[1:2] == ["soak"] else rounds.main())
