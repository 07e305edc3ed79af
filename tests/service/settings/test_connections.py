"""The recipes of docs/how-to/connections.md: each loads as it stands, and logs in the way that it says."""

import re
from pathlib import Path

import pytest

from service.settings.loading import load
from service.settings.settings import client_options

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "connections.md"
RECIPES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_page_has_recipes() -> None:
    mechanisms = {found for recipe in RECIPES for found in re.findall(r"sasl_mechanism: (\S+)", recipe)}
    assert mechanisms == {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM", "GSSAPI"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: re.findall(r"bootstrap_servers: (\S+)", recipe)[0])
def test_a_recipe_loads_as_it_stands(recipe: str, tmp_path: Path) -> None:
    for name in re.findall(r"/run/secrets/(\S+)", recipe):
        (tmp_path / name).write_text("a secret")
    file = tmp_path / "telltale.yaml"
    file.write_text(recipe.replace("/run/secrets", str(tmp_path)))
    options = client_options(load(file, {}))
    assert options["security_protocol"] in ("SASL_SSL", "SSL")
    assert ("sasl_oauth_token_provider" in options) == (options.get("sasl_mechanism") == "OAUTHBEARER")
