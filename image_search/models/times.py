"""How the API writes times."""

from typing import Annotated

from pydantic import Field

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]  # RFC 3339, in UTC
