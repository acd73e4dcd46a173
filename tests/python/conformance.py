#!/usr/bin/env python3
"""Runs the public TUF conformance suite against tuf-conformance-client, and says what came of it.

    git clone https://github.com/theupdateframework/tuf-conformance
    cargo build -p sanderling-tests --bin tuf-conformance-client
    TUF_CONFORMANCE=tuf-conformance python3 tests/python/conformance.py

The suite is in no package registry, so TUF_CONFORMANCE names a checkout. What it needs is installed into a virtual environment
under target/ from the versions that its own pyproject.toml pins; beside that it needs the program `faketime`.

The last line is `proof: tuf-conformance | <cases> cases | <failures> failures | <note>`. What is expected to fail stands in
conformance.xfails; a test that is listed there and passes counts as a failure. The exit status is 0 if nothing failed, 1 if
something did, 2 if the suite could not be run.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")).resolve()
CLIENT = "tuf-conformance-client"


def give_up(sentence):
    print(f"conformance.py: {sentence}", file=sys.stderr)
    sys.exit(2)


def checkout():
    """The folder of the suite."""
    named = os.environ.get("TUF_CONFORMANCE")
    if not named:
        give_up(
            "set TUF_CONFORMANCE to a checkout of the suite, made with "
            "`git clone https://github.com/theupdateframework/tuf-conformance`."
        )
    suite = pathlib.Path(named).resolve()
    if not (suite / "tuf_conformance" / "conftest.py").is_file():
        give_up(f"{suite} is no checkout of theupdateframework/tuf-conformance.")
    if shutil.which("faketime") is None:
        give_up("the suite sets the clock with `faketime`: install it, on Debian with `apt-get install faketime`.")
    return suite


def environment(suite):
    """A Python with the versions that the suite pins."""
    wanted = tomllib.loads((suite / "pyproject.toml").read_text())["project"]["dependencies"]
    folder = TARGET / "tuf-conformance"
    python = folder / "bin" / "python3"
    stamp = folder / "installed"
    if not stamp.is_file() or stamp.read_text().splitlines() != wanted:
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, stdout=sys.stderr)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True, stdout=sys.stderr)
        except (OSError, subprocess.CalledProcessError) as error:
            give_up(f"the suite's requirements could not be installed into {folder}: {error}.")
        stamp.write_text("\n".join(wanted))
    return python


def run_suite(python, suite, client, keywords):
    """Counts of the suite's results, and the names of what failed."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # The suite reads the list of expected failures beside the program.
        entrypoint = folder / CLIENT
        entrypoint.symlink_to(client)
        shutil.copyfile(HERE / "conformance.xfails", folder / f"{CLIENT}.xfails")
        results = folder / "results.xml"
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", "-q", f"--junitxml={results}"]
        command += [f"--entrypoint={entrypoint}", *(["-k", keywords] if keywords else []), "tuf_conformance"]
        subprocess.run(command, cwd=suite, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, check=False)
        if not results.is_file():
            give_up("pytest ended without results; what it said stands above.")
        tests = list(ElementTree.parse(results).iter("testcase"))
    failed = [test.get("name") for test in tests if test.find("failure") is not None or test.find("error") is not None]
    expected = [test.get("name") for test in tests if test.find("skipped") is not None]
    return len(tests), failed, expected


def version(suite):
    """The commit of the checkout, where it is one."""
    told = subprocess.run(["git", "-C", suite, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "of an unknown version"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", type=pathlib.Path, default=TARGET / "debug" / CLIENT, help="the program to be tested")
    parser.add_argument("-k", dest="keywords", help="only tests that fit, as pytest understands it")
    arguments = parser.parse_args()
    suite = checkout()
    if not arguments.client.is_file():
        give_up(f"{arguments.client} is missing: build it with `cargo build -p sanderling-tests --bin {CLIENT}`.")
    count, failed, expected = run_suite(environment(suite), suite, arguments.client.resolve(), arguments.keywords)
    note = f"suite {version(suite)}, {len(expected)} expected to fail"
    if failed:
        note += f"; failed: {', '.join(failed)}"
    print(f"proof: tuf-conformance | {count} cases | {len(failed)} failures | {note}")
    sys.exit(1 if failed or not count else 0)


if __name__ == "__main__":
    main()
