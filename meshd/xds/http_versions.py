"""HttpProtocolOptions: what a cluster's servers are spoken to in.

Nothing said is HTTP/1.1 (Envoy docs, "HTTP protocol options"). Trailers are what our own proxy does unasked.
"""

from __future__ import annotations

from envoy.config.core.v3 import protocol_pb2
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from meshd.model.clusters import HttpVersion
from meshd.model.http2 import Http2Options
from meshd.xds import http2_options
from meshd.xds.unsupported import UnsupportedError, only

_HTTP1, _HTTP2 = "http_protocol_options", "http2_protocol_options"


def write(version: HttpVersion, http2: Http2Options) -> HttpProtocolOptions:
    """A cluster's options, as far as they tell the version. ``http2``: of no matter where none is spoken."""
    http1 = protocol_pb2.Http1ProtocolOptions(enable_trailers=True)
    match version:
        case HttpVersion.SAME:
            same = HttpProtocolOptions.UseDownstreamHttpConfig(
                http_protocol_options=http1, http2_protocol_options=http2_options.write(http2)
            )
            return HttpProtocolOptions(use_downstream_protocol_config=same)
        case HttpVersion.HTTP1:
            return HttpProtocolOptions(
                explicit_http_config=HttpProtocolOptions.ExplicitHttpConfig(http_protocol_options=http1)
            )
        case HttpVersion.HTTP2:
            return HttpProtocolOptions(
                explicit_http_config=HttpProtocolOptions.ExplicitHttpConfig(
                    http2_protocol_options=http2_options.write(http2)
                )
            )


def read(options: HttpProtocolOptions, name: str, where: str) -> tuple[HttpVersion, Http2Options]:
    """A cluster's version, and how it is spoken where it is HTTP/2. Raises UnsupportedError."""
    kind = options.WhichOneof("upstream_protocol_options")
    match kind:
        case None:
            return HttpVersion.HTTP1, Http2Options()
        case "use_downstream_protocol_config":
            return HttpVersion.SAME, _read(options.use_downstream_protocol_config, name, f"{where}.{kind}")
        case "explicit_http_config":
            explicit = options.explicit_http_config
            http2 = _read(explicit, name, f"{where}.{kind}")
            if explicit.WhichOneof("protocol_config") is None:
                raise UnsupportedError(name, f"{where}.{kind}", "must say which version")
            return HttpVersion.HTTP2 if explicit.HasField(_HTTP2) else HttpVersion.HTTP1, http2
    raise UnsupportedError(name, f"{where}.{kind}", "not supported: without TLS nothing negotiates a version")


def _read(
    config: HttpProtocolOptions.ExplicitHttpConfig | HttpProtocolOptions.UseDownstreamHttpConfig,
    name: str,
    where: str,
) -> Http2Options:
    only(config, {_HTTP1, _HTTP2}, name, where)
    only(config.http_protocol_options, {"enable_trailers"}, name, f"{where}.{_HTTP1}")
    return http2_options.read(config.http2_protocol_options, name, f"{where}.{_HTTP2}", False)
