"""The paper's Tables 1 to 3 in kind, from the folders ``measured`` of studies A and B: ``python -m results.tables``."""

from pathlib import Path

from results.study_a import tables as study_a
from results.study_b import tables as study_b

HERE = Path(__file__).parent

if __name__ == "__main__":
    print(f"# A blind camera\n\n{study_b.tables(HERE / 'study_b' / 'measured')}")
    print(f"\n# Faces\n\n{study_a.tables(HERE / 'study_a' / 'measured')}")
