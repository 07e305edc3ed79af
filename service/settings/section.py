"""What every section of the settings is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Settings that belong together; a key that is not a field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
