"""How an operation, written once as a flow, becomes a method of Client and one of AsyncClient."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from image_search._core import Flow, Step, Steps
from image_search.errors import ClientError

P = ParamSpec("P")
T = TypeVar("T")
SyncT = TypeVar("SyncT")
AsyncT = TypeVar("AsyncT")


class Operation(Generic[P, SyncT, AsyncT]):
    """A method of both clients. `wrappers` make of the client and the flow's values what each returns."""

    def __init__(
        self,
        flow: Callable[..., Flow[Any]],
        wrappers: tuple[Callable[..., SyncT], Callable[..., AsyncT]] | None = None,
    ) -> None:
        self._flow = flow
        self._wrappers = wrappers

    @overload
    def __get__(self, client: SyncRunner, owner: Any = None) -> Callable[P, SyncT]: ...
    @overload
    def __get__(self, client: AsyncRunner, owner: Any = None) -> Callable[P, Coroutine[Any, Any, AsyncT]]: ...
    @overload
    def __get__(self, client: None, owner: Any) -> Self: ...
    def __get__(self, client: Any, owner: Any = None) -> Any:
        """Say the types to checkers only: each client has methods of its own (`with_operations`)."""
        return self

    def method_of(self, client: type) -> Callable[..., Any]:
        """Make the client's method: its signature and docstring are the flow's, its result the value's."""
        flow, is_async = self._flow, issubclass(client, AsyncRunner)
        wrap = self._wrappers[is_async] if self._wrappers else None

        def finished(runner: Any, value: Any) -> Any:
            return wrap(runner, *value) if wrap else value

        def sync_method(self: Any, /, *args: Any, **options: Any) -> Any:
            return finished(self, self._run(flow(self, *args, **options)))

        async def async_method(self: Any, /, *args: Any, **options: Any) -> Any:
            return finished(self, await self._run(flow(self, *args, **options)))

        method: Callable[..., Any] = async_method if is_async else sync_method
        functools.update_wrapper(method, flow)
        returned = wrap.__name__ if wrap else _value_of(flow.__annotations__["return"])
        method.__annotations__ = {**flow.__annotations__, "return": returned}
        method.__qualname__ = f"{client.__qualname__}.{flow.__name__}"
        method.__module__ = client.__module__
        _show(method, returned)
        return method


def operation(flow: Callable[Concatenate[Any, P], Flow[T]]) -> Operation[P, T, T]:
    """Make a method of both clients that returns the flow's value."""
    return Operation(flow)


def _value_of(annotation: str) -> str:
    return annotation.removeprefix("Flow[").removesuffix("]")


class _SourceText(str):
    """An annotation as it is written: `help` would put a str between quotation marks."""

    __slots__ = ()

    __repr__ = str.__str__


def _show(method: Callable[..., Any], returned: str) -> None:
    if hasattr(method, "__signature__"):
        return
    signature = inspect.signature(method)
    parameters = [
        one if one.annotation is one.empty else one.replace(annotation=_SourceText(one.annotation))
        for one in signature.parameters.values()
    ]
    shown = signature.replace(parameters=parameters, return_annotation=_SourceText(returned))
    method.__signature__ = shown  # type: ignore[attr-defined]


def with_operations(client: type[T]) -> type[T]:
    """Give a client methods of its own, made of the operations that it inherits."""
    for name in dir(client):
        member = inspect.getattr_static(client, name)
        if isinstance(member, Operation):
            setattr(client, name, member.method_of(client))
    return readable(client)


def readable(kind: type[T]) -> type[T]:
    """Have `help` show the methods' annotations as they are written."""
    for member in vars(kind).values():
        if inspect.isfunction(member):
            _show(member, str(member.__annotations__["return"]))
    return kind


class SyncRunner:
    """Runs a flow in the calling thread."""

    def _run(self, flow: Flow[T]) -> T:
        with closing(Steps(flow)) as steps:
            while (step := steps.next) is not None:
                try:
                    answer = self._do(step)
                except ClientError as error:
                    steps.fail(error)
                else:
                    steps.answer(answer)
            return steps.value

    def _do(self, step: Step) -> Any:
        raise NotImplementedError


class AsyncRunner:
    """Runs a flow on the running loop."""

    async def _run(self, flow: Flow[T]) -> T:
        with closing(Steps(flow)) as steps:
            while (step := steps.next) is not None:
                try:
                    answer = await self._do(step)
                except ClientError as error:
                    steps.fail(error)
                else:
                    steps.answer(answer)
            return steps.value

    async def _do(self, step: Step) -> Any:
        raise NotImplementedError
