"""Errors as HTTP answers, all in OpenAI's form: `{"error": {message, type, param, code}}`."""

from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from agentflux import AgentFluxError, errors

_ENGINE_BUSY_S = 5.0


class ErrorBody(BaseModel):
    """What went wrong. param: the field of the request; code: for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorBody


@dataclass
class Problem(Exception):
    """An answer that is not a success, raised from anywhere below a route."""

    status: int
    message: str
    code: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def body(self) -> ErrorAnswer:
        """Return the answer's body."""
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        return ErrorAnswer(
            error=ErrorBody(message=self.message, type=kind, param=self.param, code=self.code)
        )

    def response(self) -> JSONResponse:
        """Return the HTTP answer."""
        return JSONResponse(self.body().model_dump(), self.status, headers=self.headers)


def busy(retry_after_s: float) -> Problem:
    """The queue is full."""
    seconds = str(max(1, round(retry_after_s)))
    message = f"the device is busy and its queue is full; try again in {seconds} s"
    return Problem(429, message, "queue_full", headers={"Retry-After": seconds})


def from_sdk(error: AgentFluxError) -> Problem:
    """Translate an error of the SDK."""
    if isinstance(error, errors.ContextOverflow):
        return Problem(400, str(error), "context_length_exceeded", "messages")
    if isinstance(error, errors.SchemaNotSupported):
        return Problem(400, str(error), "schema_not_supported", "response_format")
    if isinstance(error, errors.EngineBusy):
        return busy(_ENGINE_BUSY_S)
    if isinstance(error, errors.ConfigError):
        return Problem(400, str(error), "invalid_value")
    return Problem(500, str(error), "engine_error")


def install(app: FastAPI) -> None:
    """Answer every error of the routes in the one form."""

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> JSONResponse:
        return error.response()

    @app.exception_handler(AgentFluxError)
    async def sdk(request: Request, error: AgentFluxError) -> JSONResponse:
        return from_sdk(error).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        message = f"{place}: {first['msg']}" if place else str(first["msg"])
        return Problem(400, message, "invalid_value", place or None).response()

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        headers = dict(error.headers or {})
        return Problem(error.status_code, str(error.detail), code, headers=headers).response()
