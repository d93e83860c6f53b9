"""Runs inside each environment of a suite, as `_pyinstall_inner`: an ordinary pytest session that tells its reports.

Needs pytest alone, from 6.2 on, and is valid on Python 3.6. Never imported by the package itself.

The reports go, one JSON array per line, into a file that the outer session follows: nothing that a test does to its
descriptors can get in between, a writer never waits for its reader, and what was written survives a crash. A line is
written at each test's start, so that the test that was running is known, and costs about two microseconds. A test that
simply passed is one short line.

PYTEST_DONT_REWRITE: it is imported before pytest is there to rewrite it.
"""

import gc
import json
import os
import sys

import pytest

_STANDARD = {
    "_id", "nodeid", "location", "keywords", "outcome", "longrepr", "when", "user_properties", "sections", "duration",
    "start", "stop", "node", "worker_id", "item_index", "testrun_uid",
}  # fmt: skip
# What the outer session writes, once for all Pythons.
_OUTER_ONLY = {
    "xmlpath": None, "htmlpath": None, "report_log": None, "json_report": False, "json_report_file": "none",
    "pastebin": None, "durations": None, "md_report": False, "ctrf": None,
}  # fmt: skip
_OPTIONS = (
    "python-missing", "python-downloads", "python-preference", "python-store", "python-cache", "python-mirror",
    "python-catalogue", "python-attestation", "python-jobs", "python-report", "python-bisect",
)  # fmt: skip
_INIS = (
    "python", "missing", "downloads", "preference", "store", "cache", "mirror", "catalogue", "attestation", "path", "suite", "jobs",
    "suite_install",
)  # fmt: skip


class _Stream:
    """The file that the outer session follows."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        self.parent = os.getppid()

    def tell(self, *event):
        try:
            text = json.dumps(event, default=repr)
        except (TypeError, ValueError):  # keys that JSON has no word for, a cycle
            text = json.dumps(_plain(event), default=repr)
        data = text.encode("ascii") + b"\n"
        while data:
            data = data[os.write(self.fd, data) :]


class _Teller:
    def __init__(self, stream, keeps_sections):
        self.stream = stream
        self.keeps_sections = keeps_sections
        self.indices = {}
        self.deselected = 0
        self.passing = {}
        self.is_told = False

    def pytest_deselected(self, items):
        self.deselected += len(items)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session):
        if session.items or not _is_distributing(session.config):
            self._collected([(item.nodeid, item.location) for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node, ids):
        if not self.is_told:
            self._collected([(nodeid, None) for nodeid in ids])

    def _collected(self, found):
        self.is_told = True
        rows = []
        for nodeid, location in found:
            self.indices.setdefault(nodeid, len(rows))
            rows.append([nodeid, location and list(location)])
        self.stream.tell("collected", rows, self.deselected)

    def pytest_runtest_logstart(self, nodeid, location):
        # Whoever started us and is gone did not end us: there is nobody left to tell.
        if os.getppid() != self.stream.parent:
            os._exit(3)
        self.stream.tell("s", self.indices.get(nodeid, nodeid))

    def pytest_runtest_logreport(self, report):
        nodeid = report.nodeid
        index = self.indices.get(nodeid)
        is_plain = (
            index is not None
            and report.outcome == "passed"
            and not report.user_properties
            and (not report.sections or not self.keeps_sections)
            and _STANDARD.issuperset(report.__dict__)
        )
        held = self.passing.setdefault(nodeid, [])
        if is_plain:
            held.append(report)
            if report.when != "teardown":
                return
            del self.passing[nodeid]
            if [one.when for one in held] == ["setup", "call", "teardown"]:
                start = getattr(held[0], "start", 0)
                self.stream.tell("p", index, start, *[round(one.duration, 6) for one in held])
                return
            self._send(held)
            return
        del self.passing[nodeid]
        self._send(held + [report])
        if report.when != "teardown":
            self.passing[nodeid] = []

    def _send(self, reports):
        for report in reports:
            self.stream.tell("r", _serialized(report))

    def pytest_collectreport(self, report):
        if report.outcome != "passed":
            self.stream.tell("c", _serialized(report))

    def pytest_warning_recorded(self, warning_message, when, nodeid):
        warning = warning_message
        self.stream.tell(
            "w",
            str(warning.message),
            warning.category.__module__ or "",
            warning.category.__name__,
            warning.filename,
            warning.lineno,
            nodeid,
            when,
        )

    def pytest_internalerror(self, excrepr):
        self.stream.tell("internal", str(excrepr))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        reason = session.shouldfail or session.shouldstop
        self.stream.tell("stopping", reason if isinstance(reason, str) else "")


class _Junit:
    """Stands where pytest keeps the writer of a junit file, and tells what fixtures give it besides reports."""

    def __init__(self, stream, family):
        self.stream = stream
        self.family = family

    def __bool__(self):
        return False  # nothing to be closed

    def add_global_property(self, name, value):
        self.stream.tell("property", str(name), str(value))

    def node_reporter(self, nodeid):
        return _JunitCase(self.stream, nodeid)


class _JunitCase:
    def __init__(self, stream, nodeid):
        self.stream = stream
        self.nodeid = nodeid

    def add_attribute(self, name, value):
        self.stream.tell("attribute", str(self.nodeid), str(name), str(value))


_stream = None
_document = {}


def main():
    """Run pytest with the arguments that the outer session left for us in a file, and end with its exit code."""
    global _stream, _document
    path = sys.argv.pop(1)
    with open(path, "rb") as file:
        _document = json.loads(file.read().decode("utf-8"))
    _stream = _Stream(_document["stream"])
    sys.argv[0] = "pytest"
    if _document["with_directory"]:
        sys.path.insert(0, os.getcwd())
    code = 3
    try:
        code = int(pytest.main(_document["arguments"]))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        gc.enable()
        _stream.tell("end", code)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
    # pytest has collected what the tests left; without this, Python would go through all that was imported once more.
    if hasattr(gc, "freeze"):  # from 3.7 on, and not in PyPy
        gc.freeze()
    sys.exit(code)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config, parser):
    """Take our options for known, wherever they stand: on the command line, in addopts or in PYTEST_ADDOPTS."""
    gc.enable()  # it was off from the start on, because what pytest imports stays
    group = parser.getgroup("pyinstall")
    known = [("--python", {"action": "append"}), ("--python-suite", {"action": "store_true"})]
    known += [("--" + name, {}) for name in _OPTIONS]
    for name, how in known:
        try:
            group.addoption(name, dest="pyinstall_inner_" + name.strip("-").replace("-", "_"), **how)
        except ValueError:  # pytest-pyinstall is in this environment too
            pass
    for name in _INIS:
        try:
            parser.addini("pyinstall_" + name, "for the outer session")
        except (ValueError, AssertionError):
            pass
    if _document:
        # Coverage of several Pythons becomes one report, which the outer session writes.
        namespace = early_config.known_args_namespace
        if getattr(namespace, "cov_source", None):
            reports = namespace.cov_report if isinstance(namespace.cov_report, dict) else {}
            appends = bool(getattr(namespace, "cov_append", False))
            _stream.tell("coverage", reports, namespace.cov_fail_under, namespace.cov_config, appends)
            namespace.cov_report = {"": None}
            namespace.cov_fail_under = 0
            namespace.cov_append = False
    yield


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    if _stream is None or hasattr(config, "workerinput"):
        return
    if getattr(config.option, "xmlpath", None) and hasattr(config, "stash"):  # from pytest 7 on
        from _pytest.junitxml import xml_key

        config.stash[xml_key] = _Junit(_stream, config.getini("junit_family"))
    for name, value in _OUTER_ONLY.items():
        if hasattr(config.option, name):
            setattr(config.option, name, value)
    _stream.tell("start", pytest.__version__, "%d.%d.%d" % sys.version_info[:3], str(config.rootdir))
    config.pluginmanager.register(_Teller(_stream, _document["keeps_sections"]), "_pyinstall_teller")


def _is_distributing(config):
    return config.pluginmanager.hasplugin("dsession")


def _serialized(report):
    report.__dict__.pop("node", None)
    data = report._to_json()
    data["$report_type"] = "CollectReport" if data.get("when") is None or _is_collect(report) else "TestReport"
    for name in ("worker_id", "testrun_uid", "item_index"):
        data.pop(name, None)
    return data


def _is_collect(report):
    return type(report).__name__ == "CollectReport"


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else repr(value)
