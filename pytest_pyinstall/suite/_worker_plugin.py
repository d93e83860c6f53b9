"""The plugin of a worker, which is a normal pytest session in an environment of the suite: writes its reports to a file.

A worker imports it as `_pyinstall_inner`. The package itself never imports it. It needs only pytest 6.2 or newer, and
runs on Python 3.6.

The reports are lines of JSON in a file that the controller reads. With a file, a test that closes or redirects
descriptors cannot disturb the reports, the worker never waits for the reader, and the lines survive a crash. The worker
writes a line when a test starts, so that the running test is known after a crash. A test that passes without output is
one short line.

PYTEST_DONT_REWRITE: it is imported before pytest can rewrite it.
"""

import errno
import importlib
import json
import os
import re
import sys
import types

import pytest

try:
    import resource
except ImportError:  # Windows
    resource = None

_STANDARD_ATTRIBUTES = {
    "_id", "nodeid", "location", "keywords", "outcome", "longrepr", "when", "user_properties", "sections", "duration",
    "start", "stop", "node", "worker_id", "item_index", "testrun_uid",
}  # fmt: skip
# Options whose output only the controller writes, once for all Pythons.
_CONTROLLER_OPTIONS = {"xmlpath": None, "pastebin": None, "durations": None}
# Options for reports. The controller writes them if it has the plugin, else each worker writes a file of its own.
_REPORT_OPTIONS = {
    "htmlpath": None, "report_log": None, "json_report": False, "json_report_file": "none", "md_report": False, "ctrf": None,
}  # fmt: skip
# The destinations of options that name a file or directory that each worker writes.
_FILE_OPTIONS = (
    "htmlpath", "report_log", "json_report_file", "md_report_output", "ctrf", "log_file", "resultlog", "allure_report_dir",
    "nunit_xmlpath", "tap_outdir", "csv_path", "excelpath", "cucumber_json_path", "benchmark_histogram", "debug", "memray_bin_path",
)  # fmt: skip
# Header lines of pytest's own plugins: they are the same in all workers, or name directories of one worker.
_PYTEST_HEADING = re.compile(
    "(rootdir|configfile|testpaths|inifile|plugins|cachedir|using|setuptools registered plugins|active plugins)\\b"
)
_SUMMARIES = (
    "summary_errors", "summary_failures", "summary_xfailures", "summary_warnings", "summary_passes", "summary_xpasses",
    "short_test_summary",
)  # fmt: skip
# The names of our options that take a value, and of our ini values. `run.plugin_source` sets them from its table.
_OPTIONS = ()
_INIS = ()


class _Stream:
    """The file that the controller reads.

    All functions that writing needs are bound when the session starts, because a test may patch any module.
    """

    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        self._write = os.write
        self._getppid = os.getppid
        self._getpid = os.getpid
        self._exit = os._exit
        self._seek = os.lseek
        self._parent = os.getppid()
        self._own = os.getpid()
        encoder = json.JSONEncoder(default=_shown)
        encoder.iterencode = encoder.iterencode  # on the instance, because a test may patch the class
        self._encode = encoder.encode
        self._unsent = b""
        self._limits = resource and (resource.getrlimit, resource.setrlimit, resource.RLIMIT_FSIZE)

    def send(self, *event):
        """Write one event. Raises `OSError`."""
        if self._getpid() != self._own:
            return  # a test forked, and the child goes on with the session, whose result plain pytest ignores too
        try:
            text = self._encode(event)
        except (TypeError, ValueError, RecursionError):  # keys that JSON does not support, or a cycle
            text = self._encode(_plain(event))
        data = self._unsent + text.encode("ascii") + b"\n"
        try:
            while data:
                data = data[self._write(self._fd, data) :]
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            data = self._write_beyond_limit(data)
        self._unsent = data

    def _write_beyond_limit(self, data):
        """Write `data` even if a test has limited the size of files. Returns the part that cannot be written yet."""
        get, set_, name = self._limits
        before = get(name)
        for limit in (before[1], -1):  # the hard limit, and no limit, which only root can set
            try:
                set_(name, (limit, max(limit, before[1])) if limit != -1 else (-1, -1))
            except (OSError, ValueError):
                continue
            try:
                while data:
                    data = data[self._write(self._fd, data) :]
            except OSError as error:
                if error.errno != errno.EFBIG:
                    raise
            finally:
                set_(name, before)
            if not data:
                break
        return data

    def lift_limit(self):
        """Raise the limit for the size of files, so that plugins can write their reports at the end of the session."""
        if self._limits:
            get, set_, name = self._limits
            soft, hard = get(name)
            if soft != hard:
                set_(name, (hard, hard))

    def end_if_alone(self):
        """Exit if the controller was killed, which could not end this worker."""
        if self._getppid() != self._parent and self._getpid() == self._own:
            self._exit(3)

    def position(self):
        """The size of the output so far in bytes; None if stdout is a terminal."""
        try:
            return self._seek(1, 0, 1)
        except OSError:
            return None


class _Reporter:
    """Sends the events of the session to the controller, and silences the progress of the worker's own reporter."""

    def __init__(self, stream, config):
        option = config.option
        self.stream = stream
        self.config = config
        self.keeps_sections = _document["keeps_sections"]
        self.shows_fixtures = bool(getattr(option, "show_fixtures_per_test", False))
        # Whether plain pytest prints more about a test than its outcome.
        self.is_talkative = (
            any(getattr(option, name, False) for name in ("setupshow", "setuponly", "setupplan"))
            or bool(getattr(option, "log_cli_level", None) or _ini(config, "log_cli"))
            or getattr(option, "capture", "fd") in ("sys", "tee-sys")
        )
        self.reporter = None
        self.writer = None
        self.null_writer = None
        self.start = None
        self.indices = {}
        self.deselected = 0
        self.passing = {}
        self.is_collection_sent = False
        self.has_run = False

    def pytest_deselected(self, items):
        self.deselected += len(items)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_collection_finish(self, session):
        yield
        if session.items or not _is_distributing(session.config):
            self._collected([(item.nodeid, item.location) for item in session.items])
        if self.shows_fixtures:
            self.start = self._position()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node):
        """Pass on to xdist's workers, which collect, what selects tests: the node ids and the shard."""
        node.workerinput["pyinstall_ids"] = _ids
        if _document["cut"]:
            node.workerinput["pyinstall_cut"] = _document["cut"]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        before = (getattr(node, "workeroutput", None) or {}).get("pyinstall_before_cut")
        if before:
            self.stream.send("cut", before)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node, ids):
        if not self.is_collection_sent:
            self._collected([(nodeid, None) for nodeid in ids])

    def _collected(self, found):
        self.is_collection_sent = True
        nodeids = {nodeid for nodeid, _ in found}
        for word, _ in _ids["places"]:
            if _nodeid(self.config, word) in nodeids:
                self.stream.send("parameter", word)
        rows = []
        for nodeid, location in found:
            self.indices.setdefault(nodeid, len(rows))
            rows.append([nodeid, location and list(location)])
        self.stream.send("collected", rows, self.deselected)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionstart(self, session):
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and hasattr(reporter, "_tw"):
            self.reporter = reporter
            self.writer = reporter._tw
            self.writer.fullwidth = _document["width"]
            self.null_writer = type(reporter._tw)(file=_NullFile())
        yield

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_report_header(self):
        self._heading((yield).get_result())

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_report_collectionfinish(self):
        self._heading((yield).get_result())

    def _heading(self, found):
        lines = []
        for each in found:
            lines.extend([each] if isinstance(each, str) else each)
        lines = [str(line) for line in lines if str(line).strip() and not _PYTEST_HEADING.match(str(line))]
        if lines:
            self.stream.send("heading", lines)

    def _position(self):
        """The position of the next output; None if stdout is not a file."""
        for stream in (self.writer and self.writer._file, sys.stdout):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        return self.stream.position()

    def _printed(self, kind, *fields):
        """Send the range of output since `self.start`."""
        end = self._position()
        if self.start is not None and end is not None and end > self.start:
            self.stream.send(kind, self.start, end, *fields)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter):
        self.stream.lift_limit()
        for name in _SUMMARIES:  # the controller prints them for all Pythons
            setattr(terminalreporter, name, lambda *_, **__: None)
        self.start = self._position()
        yield
        self._printed("summary")

    # The controller shows the progress. The worker's reporter must print nothing in these hooks. Output between them
    # comes from other plugins, or is a live log.

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self, nodeid, location):
        self.has_run = True
        self.stream.end_if_alone()
        self.stream.send("s", self.indices.get(nodeid, nodeid))
        if self.reporter is None:
            yield
            return
        self.reporter._tw = self.null_writer
        yield
        self.reporter._tw = self.writer
        if self.is_talkative:
            self.start = self._position()

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_logfinish(self, nodeid):
        if self.is_talkative:
            self._printed("output", nodeid)
        if self.reporter is None:
            yield
            return
        self.reporter._tw = self.null_writer
        yield
        self.reporter._tw = self.writer

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report):
        if self.reporter is not None:
            self.reporter._tw = self.null_writer
        yield
        if self.reporter is not None:
            self.reporter._tw = self.writer
        self._send_report(report)  # as the other plugins have left it

    def _send_report(self, report):
        self.has_run = True
        nodeid = report.nodeid
        index = self.indices.get(nodeid)
        is_plain = (
            index is not None
            and report.outcome == "passed"
            and not report.user_properties
            and (not report.sections or not self.keeps_sections)
            and _STANDARD_ATTRIBUTES.issuperset(report.__dict__)
        )
        held = self.passing.setdefault(nodeid, [])
        if is_plain:
            held.append(report)
            if report.when != "teardown":
                return
            del self.passing[nodeid]
            if [one.when for one in held] == ["setup", "call", "teardown"]:
                start = getattr(held[0], "start", 0)
                self.stream.send("p", index, start, *[round(one.duration, 6) for one in held])
                return
            self._send_all(held)
            return
        del self.passing[nodeid]
        self._send_all(held + [report])
        if report.when != "teardown":
            self.passing[nodeid] = []

    def _send_all(self, reports):
        for report in reports:
            data = _serialized(report)
            if (
                report.outcome not in ("passed", "failed", "skipped")
                or hasattr(report, "wasxfail")
                or not _STANDARD_ATTRIBUTES.issuperset(report.__dict__)
            ):
                data["$status"] = self.config.hook.pytest_report_teststatus(report=report, config=self.config)
            self.stream.send("r", data)

    def pytest_collectreport(self, report):
        if report.outcome != "passed":
            self.stream.send("c", _serialized(report))

    def pytest_warning_recorded(self, warning_message, when, nodeid):
        warning = warning_message
        self.stream.send(
            "w",
            str(warning.message),
            warning.category.__module__ or "",
            warning.category.__name__,
            warning.filename,
            warning.lineno,
            nodeid,
            when,
        )

    def pytest_keyboard_interrupt(self, excinfo):
        self.stream.send("interrupted", excinfo.exconly())

    def pytest_internalerror(self, excrepr):
        self.stream.send("internal", str(excrepr))

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session):
        """Notice a plugin that runs nothing in place of pytest's own loop. The exit code is 0 then."""
        outcome = yield
        if outcome.excinfo is None and session.items and not self.has_run and not session.config.option.collectonly:
            self.stream.send("incomplete", "none of the %d collected tests has run" % len(session.items))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        if self.shows_fixtures:
            self._printed("summary")
        reason = session.shouldfail or session.shouldstop
        self.stream.send("stopping", reason if isinstance(reason, str) else "")


class _End:
    """Notes that the session has come to its end, before a plugin can raise an exception there."""

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self):
        global _has_finished
        _has_finished = True
        yield


class _Ids:
    """Selects tests by the ids on the command line that end in labels."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config, items):
        """Select tests by ids that end in a label such as ``[py3.12]``. If a test has that parameter, it is one."""
        found = getattr(config, "workerinput", {}).get("pyinstall_ids") or _ids
        nodeids = {item.nodeid for item in items}
        places = [[_nodeid(config, word), _nodeid(config, base)] for word, base in found["places"]]
        tests = {word: base for word, base in places if word in nodeids}
        others = [_nodeid(config, place) for place in found["others"]]
        others += [base for word, base in places if word not in nodeids]
        if tests:
            items[:] = [
                item
                for item in items
                if item.nodeid in tests
                or not any(_is_below(item.nodeid, base) for base in tests.values())
                or any(_is_below(item.nodeid, place) for place in others)
            ]
        deselected = getattr(config.option, "deselect", None) or []
        for index, word in enumerate(deselected):
            if not any(nodeid.startswith(word) for nodeid in nodeids):
                deselected[index] = found["deselect"].get(word, word)


class _Collected:
    """Remembers all tests of the files that are named, also those that the arguments do not select."""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_make_collect_report(self):
        outcome = yield
        found = outcome.get_result().result
        _collected.extend(node.nodeid for node in found or () if isinstance(node, pytest.Item))


class _NullFile:
    """A file that discards its content."""

    encoding = "utf-8"

    def write(self, text):
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return False


def _fixtures():
    """The fixtures of pytest-pyinstall, for an environment without it: they skip the test or fail.

    They are functions of a module, because newer releases of pytest 9 warn about a session fixture that is a method.
    """
    module = types.ModuleType("pyinstall_fixtures")
    for name in ("python", "pythons", "install_python"):
        setattr(module, name, _fixture(name, "session"))
    module.python_env = _fixture("python_env", "function")
    return module


def _fixture(name, scope):
    @pytest.fixture(scope=scope, name=name)
    def end():
        _end_without_plugin(name)

    return end


class _Hooks:
    """The hooks of pytest-pyinstall, for an environment without it. A conftest may implement them."""

    def pytest_pyinstall_provided(self, interpreter, config):
        pass

    def pytest_pyinstall_environment(self, environment, python, config):
        pass


def _end_without_plugin(name):
    if sys.version_info < (3, 11):
        pytest.skip("the fixture `%s` needs pytest-pyinstall, which is for Python 3.11 and newer" % name)
    pytest.fail(
        "the fixture `%s` needs pytest-pyinstall in this environment\nhint: add it to what the tests need, as"
        " \"pytest-pyinstall; python_version >= '3.11'\"" % name,
        pytrace=False,
    )


class _Junit:
    """Replaces pytest's writer of the JUnit file, and sends the controller what fixtures add to it besides reports."""

    def __init__(self, stream, family):
        self.stream = stream
        self.family = family

    def __bool__(self):
        return False  # so that pytest does not close it

    def add_global_property(self, name, value):
        self.stream.send("property", str(name), str(value))

    def node_reporter(self, nodeid):
        return _JunitCase(self.stream, nodeid)


class _JunitCase:
    def __init__(self, stream, nodeid):
        self.stream = stream
        self.nodeid = nodeid

    def add_attribute(self, name, value):
        self.stream.send("attribute", str(self.nodeid), str(name), str(value))


_stream = None
_document = {}
_has_finished = False
# Arguments with the label of this Python, each with and without it; other arguments; and ids for --deselect.
_ids = {"places": [], "others": [], "deselect": {}}
# The ids of the tests in the files of arguments with parameters, for the hint if one of them does not exist.
_collected = []


def main(path):
    """Run pytest with the arguments that the controller wrote to the file `path`, and exit with its exit code."""
    global _stream, _document
    with open(path, "rb") as file:
        _document = json.loads(file.read().decode("utf-8"))
    _stream = _Stream(_document["stream"])
    _look_like_pytest()
    code = 1  # of a Python that ends with an exception
    has_ended = True
    try:
        code = int(pytest.main(_arguments()))
        # A `pytest_cmdline_main` of the project that returns 0 has run no test. Other codes are errors already.
        has_ended = _has_finished or code not in (0, 5)
    except SystemExit as end:
        # A conftest that calls `sys.exit` when it is imported has ended pytest before it could find any test. That is a
        # crash, whatever the code. After the session, pytest itself uses the code of a `SystemExit`.
        has_ended = _has_finished
        code = 0 if end.code is None else end.code if isinstance(end.code, int) else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    finally:
        _stream.lift_limit()
        if has_ended:
            if code == 4 and _collected:
                _stream.send("known", _collected)
            _stream.send("end", code)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
    sys.exit(code)


def _look_like_pytest():
    """Set `__main__`, `sys.argv` and `sys.path` to the values that they have under plain pytest."""
    main = sys.modules["__main__"]
    if _document["as_module"]:
        spec = importlib.util.find_spec("pytest.__main__")
        main.__spec__, main.__package__, script = spec, "pytest", spec.origin
        entry = os.getcwd()
    else:
        script = _document["script"]
        entry = os.path.dirname(script)
    main.__file__ = script
    if getattr(main, "__loader__", None) is not None and hasattr(main.__loader__, "path"):
        main.__loader__.path = script
    sys.argv[:] = [script] + _document["argv"]
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, entry)


def _arguments():
    """Return the arguments for pytest, and set ``PYTEST_ADDOPTS``, both without plugins that only the controller has."""
    absent = {"-p" + name for name in _document["plugins"] if not _is_plugin(name)}
    environment = [word for word in _document["environment"] if word not in absent]
    if environment != _document["environment"] or _document["is_environment_changed"]:
        os.environ["PYTEST_ADDOPTS"] = " ".join(map(_quoted, environment))
    ini = [word for word in _document["ini"] if word not in absent]
    more = []
    if ini != _document["ini"] or _document["is_ini_changed"]:
        more = ["-o", "addopts=" + " ".join(map(_quoted, ini))]
    arguments = [word for word in _document["arguments"] if word not in absent]
    return ["-p", "_pyinstall_inner"] + arguments + _document["ours"] + more + _document["after_dashes"]


def _is_plugin(name):
    """Whether ``-p name`` finds a plugin here."""
    for module in ("_pytest." + name, name):
        try:
            if importlib.util.find_spec(module) is not None:
                return True
        except (ImportError, AttributeError, ValueError):  # a parent package cannot be imported
            pass
    try:
        from importlib.metadata import distributions
    except ImportError:  # before Python 3.8
        from importlib_metadata import distributions
    return any(
        point.group == "pytest11" and point.name == name for found in distributions() for point in found.entry_points
    )


def _quoted(word):
    return "'" + word.replace("'", "'\"'\"'") + "'"


def pytest_configure(config):
    for line in (
        "python(*requests): run this test with these Pythons instead of the session's",
        "requires_python(specifier): run this test only with Pythons that match",
    ):
        config.addinivalue_line("markers", line)
    config.pluginmanager.register(_Ids(), "_pyinstall_ids")
    if not config.pluginmanager.hasplugin("pyinstall"):
        config.pluginmanager.register(_fixtures(), "_pyinstall_fixtures")
        config.pluginmanager.add_hookspecs(_Hooks)  # a conftest may implement them


def pytest_itemcollected(item):
    """Skip a test whose mark `requires_python` excludes this Python, even if it does not use the fixture `python`."""
    for mark in item.iter_markers("requires_python"):
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        version = "%d.%d.%d" % sys.version_info[:3]
        specifier = ",".join(map(str, mark.args))
        try:
            fits = SpecifierSet(specifier).contains(version, prereleases=True)
        except InvalidSpecifier:
            continue  # the fixture `python` reports the error
        if not fits:
            item.add_marker(pytest.mark.skip(reason="Python %s does not fit %s" % (version, specifier)))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Deselect the tests of other shards, after ``-k`` and ``-m``, which select the same tests in each shard."""
    distributed = getattr(config, "workerinput", None)
    cut = _document.get("cut") if distributed is None else distributed.get("pyinstall_cut")
    if not cut:
        return
    if distributed is not None:
        config.workeroutput["pyinstall_before_cut"] = len(items)
    elif items:
        _stream.send("cut", len(items))
    parts = parts_of([item.nodeid for item in items], cut["weights"], cut["durations"], cut["default"])
    others = [item for item in items if parts[item.nodeid] != cut["own"]]
    if others:
        items[:] = [item for item in items if parts[item.nodeid] == cut["own"]]
        config.hook.pytest_deselected(items=others)


def parts_of(nodeids, weights, durations, default):
    """Divide tests into parts, one for each of `weights`. Returns the index of the part of each test.

    Assigns the tests from the longest to the shortest, each to the part that would finish it first. With equal weights
    this is the rule least_duration of pytest-split. The result does not depend on the order of `nodeids`.
    """
    loads = [0] * len(weights)
    parts = {}
    for nodeid in sorted(set(nodeids), key=lambda nodeid: (-durations.get(nodeid, default), nodeid)):
        duration = durations.get(nodeid, default)
        part = min(range(len(weights)), key=lambda part: ((loads[part] + duration) / weights[part], part))
        loads[part] += duration
        parts[nodeid] = part
    return parts


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config, parser, args):
    _add_options(parser)
    label = os.environ.get("PYTEST_PYINSTALL_SUITE", "")
    _adapt_ini(early_config, parser, label)
    if _document:
        _leave_coverage_to_the_controller(early_config)
    yield
    if _document:
        # The conftests have added their options now.
        known = _options(parser)
        args[:] = [word for word in args if not _is_of_controller(word, known)]
        _resolve_ids(early_config, parser, args, label)


def _add_options(parser):
    """Add our options and ini values, which a project may have configured, in an environment without our plugin."""
    group = parser.getgroup("pyinstall")
    known = [("--python", {"action": "append"}), ("--python-suite", {"action": "store_true"})]
    known += [(name, {}) for name in _OPTIONS]
    there = _options(parser)
    for name, how in known:
        if name in there:  # pytest-pyinstall is in this environment too
            continue
        try:
            group.addoption(name, dest="pyinstall_inner_" + name.strip("-").replace("-", "_"), **how)
        except ValueError:  # another plugin has an option with this name
            pass
    for name in list(_INIS) + ["cache_dir"] + _document.get("translated", []):
        if name not in parser._inidict and name not in getattr(parser, "_ini_aliases", ()):
            try:
                parser.addini(name, "for the controller")
            except (ValueError, AssertionError):
                pass


def _adapt_ini(config, parser, label):
    """Replace ``{python}`` in ini values, and translate settings that this version of pytest does not know."""
    values = config._inicfg if hasattr(config, "_inicfg") else config.inicfg
    for name, found in list(values.items()):
        value = getattr(found, "value", found)
        if "{python}" in str(value) and name != "addopts":
            value = (
                [str(each).replace("{python}", label) for each in value]
                if isinstance(value, list)
                else str(value).replace("{python}", label)
            )
            if value is not found and hasattr(found, "value"):
                import dataclasses

                value = dataclasses.replace(found, value=value)
            values[name] = value
            config._inicache.pop(name, None)
    if int(pytest.__version__.split(".")[0]) < 9:
        _adapt_to_old_pytest(config, parser, values)


def _adapt_to_old_pytest(config, parser, values):
    if _document.get("inipath"):
        # Paths in the translated file are relative to the user's own file.
        import pathlib

        config._inipath = type(config._inipath)(_document["inipath"])
        if "pythonpath" in values and config.pluginmanager.get_plugin("python_path") is None:  # before pytest 7
            for path in reversed(values["pythonpath"] if isinstance(values["pythonpath"], list) else []):
                sys.path.insert(0, str(pathlib.Path(_document["inipath"]).parent / path))
    overrides = dict(
        each.partition("=")[::2] for each in getattr(config.known_args_namespace, "override_ini", None) or ()
    )
    settings = dict(values)
    settings.update(overrides)

    def is_on(name):
        return str(settings.get(name, settings.get("strict", ""))).lower() in ("1", "true", "yes", "on")

    for name in ("strict", "strict_xfail", "strict_config", "strict_markers", "strict_parametrization_ids"):
        if name in settings and name not in parser._inidict:
            parser.addini(name, "of pytest 9")
    if is_on("strict_xfail") and "xfail_strict" not in settings:
        values["xfail_strict"] = "true"
        config._inicache.pop("xfail_strict", None)
    for name in ("strict_config", "strict_markers"):
        if is_on(name):
            setattr(config.option, name, True)
            setattr(config.known_args_namespace, name, True)


def _leave_coverage_to_the_controller(config):
    """Turn off coverage's reports and limits: the controller combines the data of all Pythons first."""
    namespace = config.known_args_namespace
    if getattr(namespace, "cov_source", None):
        reports = namespace.cov_report if isinstance(namespace.cov_report, dict) else {}
        appends = bool(getattr(namespace, "cov_append", False))
        _stream.send("coverage", reports, namespace.cov_fail_under, namespace.cov_config, appends)
        namespace.cov_report = {"": None}
        namespace.cov_fail_under = 0
        namespace.cov_append = False


def _options(parser):
    groups = [parser._anonymous] + [group for group in parser._groups if group is not parser._anonymous]
    return {name for group in groups for option in group.options for name in option.names()}


def _is_of_controller(word, known):
    """Whether `word` is an option of a reporter that only the controller has."""
    name = word.partition("=")[0]
    return name in _document["reporters"] and name not in known


def _resolve_ids(config, parser, args, label):
    """Remove the label of this Python from node ids in `args`, and remove the node ids with other labels.

    An id that ends in a label may name a test with that parameter, or may be the value of an option. So ids are kept in
    `_ids` until the tests are collected.
    """
    global _has_finished
    import copy

    def places():
        return list(map(str, parser.parse_known_args(args, namespace=copy.copy(config.option)).file_or_dir))

    _ids["places"] = list(map(list, _document["places"].items()))
    for word, (base, is_ours) in _document["ambiguous"].items():
        _ids["deselect"][word] = base if is_ours else word
        if word not in places():
            continue
        if is_ours:
            args[args.index(word)] = base
            _ids["places"].append([word, base])
        elif len(places()) > 1:
            args.remove(word)
        else:
            _stream.send("unselected")
            _has_finished = True
            pytest.exit("no test of this Python was selected", 5)
    bases = [base for _, base in _ids["places"]]
    _ids["others"] = [place for place in places() if place not in bases]


def _nodeid(config, word):
    """The node id for an argument, whose path is relative to the current directory."""
    path, colons, rest = word.partition("::")
    start = str(getattr(config, "invocation_params", config).dir)
    path = os.path.relpath(os.path.join(start, path), str(config.rootdir))
    return path.replace(os.sep, "/") + colons + rest


def _is_below(nodeid, place):
    return place == "." or nodeid == place or nodeid.startswith((place + "::", place + "[", place + "/"))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    if _stream is None or hasattr(config, "workerinput"):
        return
    option = config.option
    if getattr(option, "xmlpath", None) and hasattr(config, "stash"):  # from pytest 7 on
        from _pytest.junitxml import xml_key

        config.stash[xml_key] = _Junit(_stream, config.getini("junit_family"))
    reports = {name: value for name, value in _REPORT_OPTIONS.items() if name in _document["reports"]}
    for name, value in list(_CONTROLLER_OPTIONS.items()) + list(reports.items()):
        if hasattr(option, name):
            setattr(option, name, value)
    if getattr(option, "randomly_seed", None) == "default":
        option.randomly_seed = _document["seed"]
    if any("ssh=" in str(spec) or "socket=" in str(spec) for spec in getattr(option, "tx", None) or ()):
        _reach_other_hosts(config)
    _name_files(config, [name for name in _FILE_OPTIONS if name not in reports])
    _stream.send("start", pytest.__version__, "%d.%d.%d" % sys.version_info[:3], str(config.rootdir))
    config.pluginmanager.register(_Reporter(_stream, config), "_pyinstall_reporter")
    config.pluginmanager.register(_End(), "_pyinstall_end")
    if any("[" in str(word) for word in config.args):
        config.pluginmanager.register(_Collected(), "_pyinstall_collected")


def _reach_other_hosts(config):
    """Prepare for workers of xdist on other hosts: it copies the project there, and starts pytest with our arguments."""
    # The worker there imports this plugin from the copy.
    config.option.rsyncdir = list(config.option.rsyncdir or ()) + [__file__]
    # A directory for each Python, because xdist copies pytest there too.
    chdir = "//chdir=pyexecnetcache-" + re.sub(r"[^\w.+-]", "_", _document["label"])
    config.option.tx = [
        spec + chdir if ("ssh=" in spec or "socket=" in spec) and "chdir=" not in spec else spec
        for spec in map(str, config.option.tx)
    ]
    # Our root directory may not exist there.
    params = config.invocation_params
    args = [arg for arg in params.args if not str(arg).startswith("--rootdir=")]
    config.invocation_params = type(params)(args=args, plugins=params.plugins, dir=params.dir)


def _name_files(config, names):
    """Insert the label into the names of the files that this worker writes."""
    label = _document["label"]
    option = config.option
    if not getattr(option, "log_file", None) and _ini(config, "log_file"):
        option.log_file = config.getini("log_file")
    for name in names:
        value = getattr(option, name, None)
        if not isinstance(value, str) or not value or (name == "json_report_file" and not option.json_report):
            continue
        if name == "md_report_output" and not getattr(option, "md_report", False):
            continue
        if label not in value:
            root, extension = os.path.splitext(value)
            setattr(option, name, root + "-" + label + extension)
            _stream.send("file", root + "-{python}" + extension)


def _ini(config, name):
    try:
        return config.getini(name)
    except (KeyError, ValueError):
        return None


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


def _shown(value):
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)


def _plain(value, parents=()):
    """`value` with only types that JSON supports. Cycles and deeply nested values become text."""
    if isinstance(value, (dict, list, tuple)) and (len(parents) > 50 or any(value is each for each in parents)):
        return _shown(value)
    if isinstance(value, dict):
        return {str(key): _plain(each, parents + (value,)) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each, parents + (value,)) for each in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else _shown(value)
