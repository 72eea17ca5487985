"""HeaderEdit and its xDS counterpart, the headers_to_add and headers_to_remove pairs."""

from __future__ import annotations

import re
from collections.abc import Iterable

from envoy.config.core.v3 import base_pb2

from meshd.model.routes import HeaderEdit
from meshd.xds.unsupported import UnsupportedError, only

_Append = base_pb2.HeaderValueOption.HeaderAppendAction
_OVERWRITE = _Append.OVERWRITE_IF_EXISTS_OR_ADD
_APPEND = _Append.APPEND_IF_EXISTS_OR_ADD
_COMMAND = re.compile(r"(?<!%)(?:%%)*%(?!%)")


def options(edit: HeaderEdit) -> list[base_pb2.HeaderValueOption]:
    """The edit's ``set`` and ``add`` as header options. A percent sign is Envoy's escape: doubled."""

    def option(name: str, value: str, action: int) -> base_pb2.HeaderValueOption:
        return base_pb2.HeaderValueOption(
            header=base_pb2.HeaderValue(key=name, value=value.replace("%", "%%")),
            append_action=action,
            keep_empty_value=not value,
        )

    return [
        *(option(name, value, _OVERWRITE) for name, value in edit.set),
        *(option(name, value, _APPEND) for name, value in edit.add),
    ]


def edit(
    resource: str, where: str, added: Iterable[base_pb2.HeaderValueOption], removed: Iterable[str]
) -> HeaderEdit:
    """The reverse of ``options``. Raises UnsupportedError.

    Envoy applies the options in their order; an edit sets first, then appends. Where that differs (a name
    appended to and then set) the options are refused.
    """
    set_: list[tuple[str, str]] = []
    add: list[tuple[str, str]] = []
    for index, option in enumerate(added):
        here = f"{where}[{index}]"
        only(option, {"header", "append_action", "keep_empty_value"}, resource, here)
        only(option.header, {"key", "value"}, resource, f"{here}.header")
        name = option.header.key.lower()
        if _COMMAND.search(option.header.value):
            raise UnsupportedError(resource, f"{here}.header.value", "substitution commands (%...%)")
        value = option.header.value.replace("%%", "%")
        if option.append_action == _APPEND:
            add.append((name, value))
        elif option.append_action == _OVERWRITE:
            if any(name == other for other, _ in add):
                raise UnsupportedError(resource, here, f"{name} is set after it is appended to")
            set_.append((name, value))
        else:
            raise UnsupportedError(resource, f"{here}.append_action", _Append.Name(option.append_action))
    return HeaderEdit(set=tuple(set_), add=tuple(add), remove=tuple(name.lower() for name in removed))
