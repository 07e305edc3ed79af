"""The page's modules: each is served, and node's own runner runs their tests."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.http.page_routes import FILES, FOLDER
from tests.service.http import messages

TESTS = Path(__file__).parent / "page"
IMPORTED = re.compile(r'^import [^;]*?"\./([a-z_]+\.js)";', re.MULTILINE)


def test_what_a_module_imports_is_served() -> None:
    modules = list(FOLDER.glob("*.js"))
    imported = {name for path in modules for name in IMPORTED.findall(path.read_text())}
    assert len(imported) > 10
    assert {f"/page/{name}" for name in imported} <= FILES.keys()


def test_the_browser_need_not_read_a_module_to_know_what_it_imports() -> None:
    imported = {name for path in FOLDER.glob("*.js") for name in IMPORTED.findall(path.read_text())}
    ahead = re.findall(r'<link rel="modulepreload" href="/page/([a-z_]+\.js)">', (FOLDER / "index.html").read_text())
    assert sorted(ahead) == sorted(imported)


def test_the_types_of_what_the_page_is_told_are_those_of_the_service() -> None:
    assert messages.TYPES.read_text() == messages.written(), "python -m tests.service.http.messages writes them again"


@pytest.mark.programs
def test_the_tests_of_the_pages_modules_pass() -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not here: install Node.js 20 or newer (Debian: apt install nodejs)")
    files = sorted(TESTS.glob("*.test.js"))
    ran = subprocess.run(
        ["node", "--test", "--test-reporter=tap", *files], capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"# pass {sum(path.read_text().count(chr(10) + 'test(') for path in files)}" in ran.stdout
