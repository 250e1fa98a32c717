"""Print the tables of the studies from their measured data: ``python -m results.tables``.

Counterparts of the paper's Tables 1 to 3 come first.
"""

from pathlib import Path

from results.known_world.world import MEASURED
from results.study_a import tables as study_a
from results.study_b import search
from results.study_b import tables as study_b
from results.study_d import study as study_d

if __name__ == "__main__":
    for title, tables in {
        "A blind camera": study_b.tables(Path(study_b.__file__).with_name("measured")),
        "Faces": study_a.tables(Path(study_a.__file__).with_name("measured")),
        "Which pairs": search.table(MEASURED),
        "What matters": study_d.tables(MEASURED),
    }.items():
        print(f"# {title}\n\n{tables}\n")
