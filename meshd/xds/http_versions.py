"""HttpProtocolOptions: what a cluster's servers are spoken to in.

Nothing said is HTTP/1.1 (Envoy docs, "HTTP protocol options"). Trailers and extended CONNECT are what our own
proxy does unasked.
"""

from __future__ import annotations

from envoy.config.core.v3 import protocol_pb2
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from meshd.model.clusters import HttpVersion
from meshd.xds.unsupported import UnsupportedError, only

_HTTP1, _HTTP2 = "http_protocol_options", "http2_protocol_options"


def http1() -> protocol_pb2.Http1ProtocolOptions:
    """Of a connection to a server."""
    return protocol_pb2.Http1ProtocolOptions(enable_trailers=True)


def http2() -> protocol_pb2.Http2ProtocolOptions:
    """Of a connection to a client or a server."""
    return protocol_pb2.Http2ProtocolOptions(allow_connect=True)


def write(version: HttpVersion) -> HttpProtocolOptions:
    """A cluster's options, as far as they tell the version."""
    match version:
        case HttpVersion.SAME:
            same = HttpProtocolOptions.UseDownstreamHttpConfig(
                http_protocol_options=http1(), http2_protocol_options=http2()
            )
            return HttpProtocolOptions(use_downstream_protocol_config=same)
        case HttpVersion.HTTP1:
            return HttpProtocolOptions(
                explicit_http_config=HttpProtocolOptions.ExplicitHttpConfig(http_protocol_options=http1())
            )
        case HttpVersion.HTTP2:
            return HttpProtocolOptions(
                explicit_http_config=HttpProtocolOptions.ExplicitHttpConfig(http2_protocol_options=http2())
            )


def read(options: HttpProtocolOptions, name: str, where: str) -> HttpVersion:
    """A cluster's version. Raises UnsupportedError."""
    kind = options.WhichOneof("upstream_protocol_options")
    match kind:
        case None:
            return HttpVersion.HTTP1
        case "use_downstream_protocol_config":
            _check(options.use_downstream_protocol_config, name, f"{where}.{kind}")
            return HttpVersion.SAME
        case "explicit_http_config":
            explicit = options.explicit_http_config
            _check(explicit, name, f"{where}.{kind}")
            if explicit.WhichOneof("protocol_config") is None:
                raise UnsupportedError(name, f"{where}.{kind}", "must say which version")
            return HttpVersion.HTTP2 if explicit.HasField(_HTTP2) else HttpVersion.HTTP1
    raise UnsupportedError(name, f"{where}.{kind}", "not supported: without TLS nothing negotiates a version")


def _check(
    config: HttpProtocolOptions.ExplicitHttpConfig | HttpProtocolOptions.UseDownstreamHttpConfig,
    name: str,
    where: str,
) -> None:
    only(config, {_HTTP1, _HTTP2}, name, where)
    only(config.http_protocol_options, {"enable_trailers"}, name, f"{where}.{_HTTP1}")
    only(config.http2_protocol_options, {"allow_connect"}, name, f"{where}.{_HTTP2}")
