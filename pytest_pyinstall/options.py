"""The one table of options.

pytest's options and ini values, the environment variables, the options of the command line, shell completion, the
tables of the documentation and the tests are made from it. To add an option, add a row here and use its value. A row
that is a setting also needs a field of that name in `settings.Settings`, which has its type, and a reader for its kind
in `settings._READERS`.

Every pytest session imports this module, so it imports nothing.
"""

__all__ = [
    "BY_NAME",
    "OPTIONS",
    "SETTINGS",
    "Option",
    "closest_names",
    "closest_options",
    "given_with_o",
    "ini_origin",
    "ini_place",
    "misspelled_names",
    "notes_on_names",
    "probable_truth",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import Literal

    import pytest

    Kind = Literal[
        "requests", "list", "flag", "text", "word", "directory", "directories", "location", "seconds", "hosts"
    ]


class Option:
    """One row.

    `option` (``--python-store``), `ini` (``pyinstall_store``) and `variable` (``PYTEST_PYINSTALL_STORE``) are its
    names, empty if it has none there; `uv` is uv's variable for the same. `field` is its name in `Settings`, empty if
    it is not a setting. `words` are the allowed values, if they are limited; the first is the default. `keywords` are
    words that are allowed beside a URL or a path. `metavar` is the placeholder in usage lines, and `help` the
    description.
    """

    __slots__ = (
        "aliases",
        "default",
        "field",
        "help",
        "ini",
        "keywords",
        "kind",
        "metavar",
        "name",
        "option",
        "uv",
        "variable",
        "words",
    )

    def __init__(
        self,
        name: str,
        kind: "Kind",
        help: str,  # noqa: A002  # the word that argparse and pytest use
        *,
        metavar: str = "",
        words: tuple[str, ...] = (),
        keywords: tuple[str, ...] = (),
        default: object = None,
        field: str | None = None,
        option: str | None = None,
        aliases: tuple[str, ...] = (),
        ini: str | None = None,
        variable: str | None = None,
        uv: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.metavar = metavar
        self.words = words
        self.keywords = keywords
        self.default = words[0] if words else default
        self.field = name if field is None else field
        self.option = f"--python-{name.replace('_', '-')}" if option is None else option
        self.aliases = aliases
        self.ini = f"pyinstall_{name}" if ini is None else ini
        self.variable = f"PYTEST_PYINSTALL_{name.upper()}" if variable is None else variable
        self.uv = uv

    def __repr__(self) -> str:
        return f"<Option {self.name}>"

    @property
    def flags(self) -> tuple[str, ...]:
        """All spellings of the option."""
        return (self.option, *self.aliases) if self.option else ()

    @property
    def dest(self) -> str:
        """Its name among the options that pytest or argparse parsed."""
        return f"pyinstall_{self.name}"

    @property
    def is_list(self) -> bool:
        return self.kind in {"requests", "list"}


OPTIONS = (
    Option(
        "python",
        "requests",
        "a Python for the tests that use the `python` fixture, or for the whole suite; installed if it is missing: "
        "3.12, 3.9..3.13, 3.13t, pypy3.11, '>=3.10,<3.13', ./build/python, supported, … (repeatable)",
        metavar="REQUEST",
        field="",
        option="--python",
        aliases=("--pyinstall-python",),
    ),
    Option(
        "missing",
        "word",
        "what to do if a Python is not available: fail (default), or skip its tests",
        metavar="WHAT",
        words=("fail", "skip"),
    ),
    Option(
        "downloads",
        "word",
        "whether to download missing Pythons: auto (default) or never",
        metavar="WHEN",
        words=("auto", "never"),
        uv="UV_PYTHON_DOWNLOADS",
    ),
    Option(
        "preference",
        "word",
        "which Pythons to prefer: those in the store (managed, the default) or those of the machine (system); "
        "only-managed and only-system use no others",
        metavar="ORDER",
        words=("managed", "only-managed", "system", "only-system"),
    ),
    Option("store", "directory", "the directory of the installations", metavar="DIR", uv="UV_PYTHON_INSTALL_DIR"),
    Option(
        "cache",
        "directory",
        "the directory of downloaded archives and environments",
        metavar="DIR",
        uv="UV_PYTHON_CACHE_DIR",
    ),
    Option(
        "mirror",
        "location",
        "the URL or directory from which to download archives, instead of the release host",
        metavar="URL",
        uv="UV_PYTHON_INSTALL_MIRROR",
    ),
    Option(
        "pypy_mirror", "location", "as mirror, for PyPy", option="", ini="", variable="", uv="UV_PYPY_INSTALL_MIRROR"
    ),
    Option(
        "catalogue",
        "location",
        "the list of builds: pbs (the list in pbs-installer), uv (the list that uv publishes), or the URL or file of "
        "a list in uv's schema (default: pbs, and uv for what pbs lacks)",
        metavar="URL",
        keywords=("pbs", "uv"),
        uv="UV_PYTHON_DOWNLOADS_JSON_URL",
    ),
    Option(
        "attestation",
        "word",
        "whether an archive must have a verified build attestation: ignore (default) or require",
        metavar="WHAT",
        words=("ignore", "require"),
    ),
    Option(
        "path",
        "flag",
        "put the requested Pythons on PATH as pythonX.Y while the session runs (default: true)",
        default=True,
        field="",
        option="",
        variable="",
    ),
    Option(
        "suite",
        "flag",
        "run the whole suite under each requested Python, each in its own environment, as one session",
        default=False,
        field="",
        variable="",
    ),
    Option(
        "jobs",
        "text",
        "how many Pythons run at once (default: one per core)",
        metavar="N",
        field="",
        variable="",
    ),
    Option(
        "with",
        "list",
        'run the suite with this set of dependencies (repeatable): requirements as pip takes them ("django~=4.2"), '
        "lowest, lowest-direct or highest; NAME: in front names the set",
        metavar="REQUIREMENTS",
        field="",
        ini="pyinstall_suite_with",
        variable="",
    ),
    Option(
        "shard",
        "text",
        "run part K of N of the suite, for one of N CI jobs; the durations in .test_durations make the parts equal",
        metavar="K/N",
        field="",
        ini="",
        variable="",
    ),
    Option(
        "suite_install",
        "list",
        "what to install in each environment of the suite besides pytest (default: what the project's files say)",
        field="",
        option="",
        variable="",
    ),
    Option(
        "report",
        "text",
        "write the results of all tests and Pythons to an HTML page",
        metavar="FILE.html",
        field="",
        ini="",
        variable="",
    ),
    Option(
        "bisect",
        "text",
        "find the Python in the range of --python at which the result of this test changes",
        metavar="NODEID",
        field="",
        ini="",
        variable="",
    ),
    Option(
        "home",
        "directory",
        "one directory for store and cache: `HOME/store` and `HOME/cache`",
        field="",
        option="",
        ini="",
    ),
    Option(
        "offline",
        "flag",
        "open no connection; the cache is used",
        default=False,
        option="",
        ini="",
        variable="",
        uv="UV_OFFLINE",
    ),
    Option(
        "lock_timeout",
        "seconds",
        "for how many seconds to wait while another process installs the same Python (default: 300)",
        default=300.0,
        option="",
        ini="",
    ),
    Option(
        "insecure_host",
        "hosts",
        "hosts that may be used over plain http, separated by commas or spaces",
        field="insecure_hosts",
        option="",
        ini="",
    ),
    Option(
        "trusted_store",
        "directories",
        "stores to use even if others can write to them, separated as in `PATH`",
        field="trusted_stores",
        option="",
        ini="",
    ),
    Option(
        "attestation_workflow",
        "text",
        "the workflow whose attestations are accepted: `OWNER/REPOSITORY/.github/workflows/FILE`, with "
        "`@refs/heads/…` for one branch or tag (default: the release workflow of python-build-standalone)",
        field="",
        option="",
        ini="",
    ),
    Option(
        "attestation_issuer",
        "text",
        "the issuer of the workflow's identity (default: GitHub Actions)",
        field="",
        option="",
        ini="",
    ),
    Option(
        "attestation_root",
        "text",
        "the `trusted_root.json` of your own Sigstore (default: the public one, from the package `sigstore`)",
        field="",
        option="",
        ini="",
    ),
)

BY_NAME = {option.name: option for option in OPTIONS}

SETTINGS = tuple(option for option in OPTIONS if option.field and option.option)
"""The settings that can be given as an option, to pytest and on the command line."""


def given_with_o(config: "pytest.Config") -> "dict[str, str | None]":
    """The ini values that were given to pytest with ``-o``, and not in a file. None if there is no ``=``."""
    options = getattr(config, "known_args_namespace", config.option)
    words = [str(word).partition("=") for word in getattr(options, "override_ini", None) or ()]
    return {name: value if equals else None for name, equals, value in words}


def ini_origin(config: "pytest.Config", name: str) -> "tuple[str, Path | None]":
    """The origin of the ini value `name`, and its file: `name` and pytest's ini file, or ``-o NAME`` and None."""
    return (f"-o {name}", None) if name in given_with_o(config) else (name, config.inipath)


def ini_place(config: "pytest.Config", name: str) -> str:
    """`ini_origin` for a message: ``NAME in FILE``, or without a file ``NAME`` or ``-o NAME``."""
    origin, file = ini_origin(config, name)
    return origin if file is None else f"{origin} in {file}"


_PREFIXES = ("--python-", "--pyinstall-", "--", "pyinstall_", "PYTEST_PYINSTALL_")


def closest_names(words: "Iterable[str]", known: "Sequence[str]", *, cutoff: float = 0.75) -> "list[str]":
    """What each of `words` probably means: the most similar of `known` options, ini values or variables.

    ``--pyhton=3.9`` means ``--python``. What all names begin with, such as ``--python-``, is not compared. If there is
    exactly this option, but not in `known`, its other name is returned: ``PYTEST_PYINSTALL_HOME`` for
    ``--python-home``. `cutoff` is the similarity of words without such a prefix.
    """
    found = (_closest_name(word.partition("=")[0], known, cutoff) for word in words)
    return list(dict.fromkeys(filter(None, found)))


def closest_options(unknown: "Iterable[str]") -> "list[str]":
    """The options of ours that the words in `unknown`, which pytest does not know, probably mean."""
    known = sorted(flag for option in OPTIONS for flag in option.flags)
    return closest_names((word for word in unknown if word.startswith("--p")), known)


def _closest_name(word: str, known: "Sequence[str]", cutoff: float) -> str:
    from difflib import get_close_matches

    word = word.replace("_", "-") if word.startswith("-") else word
    prefix = next((prefix for prefix in _PREFIXES if word.startswith(prefix)), "")
    rest = word.removeprefix(prefix)
    if prefix and (other := _other_name(rest.lower().replace("-", "_"), word, known)):
        return other
    if prefix in {"", "--"}:
        return next(iter(get_close_matches(word, known, n=1, cutoff=cutoff)), "")
    starts = (prefix, "--python-" if word.startswith("-") else prefix)
    rests = {name.removeprefix(start): name for name in known for start in starts if name.startswith(start)}
    return next((rests[near] for near in get_close_matches(rest, list(rests), n=1, cutoff=0.6)), "")


def _other_name(name: str, word: str, known: "Sequence[str]") -> str:
    """The name of the option `name`: one of `known` if possible. Empty if `word` is its only name."""
    option = BY_NAME.get(name) or next((each for each in OPTIONS if each.ini == f"pyinstall_{name}"), None)
    if option is None:
        return ""
    names = [each for each in (option.option, option.variable, option.uv, option.ini) if each]
    return next((each for each in names if each in known), names[0] if word not in names else "")


_TRUE = ("1", "true", "yes", "on", "y", "t", "enable", "enabled", "always")
_FALSE = ("0", "false", "no", "off", "n", "f", "disable", "disabled", "never", "none")


def probable_truth(text: str, *, default: object) -> bool:
    """What an invalid value of a flag probably means: that of the most similar word, else not its default."""
    from difflib import get_close_matches

    near = get_close_matches(text.strip().lower(), _TRUE + _FALSE, n=1)
    return near[0] in _TRUE if near else not default


_INI_VALUES_OF_PYTEST = {"python_classes", "python_files", "python_functions", "pythonpath"}
"""They begin as ours do. To compare them would import `difflib` at each start of a project that has one."""


def notes_on_names(ini: "Iterable[str]", environ: "Iterable[str]") -> "list[str]":
    """A sentence for each ini value and variable that is not one of ours, but is similar to one."""
    found = misspelled_names(ini, environ)
    return [f"there is no {kind} {name}; did you mean {meant}?" for kind, name, meant in found]


def misspelled_names(ini: "Iterable[str]", environ: "Iterable[str]") -> "list[tuple[str, str, str]]":
    """Each ini value and variable that is not one of ours, but is similar to one: its kind, itself, and that one."""
    variables = [option.variable for option in OPTIONS if option.variable] + ["PYTEST_PYINSTALL_SUITE"]
    places = {
        "ini value": (
            [name for name in ini if name.startswith("py") and name not in _INI_VALUES_OF_PYTEST],
            [option.ini for option in OPTIONS if option.ini],
        ),
        "variable": ([name for name in environ if name.startswith("PYTEST_PYINSTALL_")], variables),
    }
    return [
        (kind, name, near[0])
        for kind, (names, known) in places.items()
        for name in names
        if name not in known and (near := closest_names([name], known))
    ]
