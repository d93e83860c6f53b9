"""Writes the GitHub workflows of the pages as files, for actionlint: ``python docs/workflows.py DIRECTORY``."""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for page in sorted(DOCS.rglob("*.md")):
        blocks = re.findall(r"^```yaml\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        for number, block in enumerate(block for block in blocks if "\njobs:" in block):
            (directory / f"{page.stem}-{number}.yml").write_text(block, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
