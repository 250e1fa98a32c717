"""The paper's Tables 1 to 3 in kind, from the folders ``measured`` of studies A and B: ``python -m results.tables``."""

from pathlib import Path

from results.study_a import tables as study_a
from results.study_b import tables as study_b

if __name__ == "__main__":
    for title, study in (("A blind camera", study_b), ("Faces", study_a)):
        print(f"# {title}\n\n{study.tables(Path(study.__file__).with_name('measured'))}\n")
