"""HealthCheck and its xDS counterpart of the same name.

The port that is asked, where it is not an endpoint's own, is each endpoint's matter in xDS
(Endpoint.health_check_config); of a cluster it is a fact of ours.
"""

from __future__ import annotations

from envoy.config.core.v3 import health_check_pb2
from envoy.type.v3 import http_pb2, range_pb2

from meshd.model.cluster_policies import GrpcProbe, HealthCheck, HttpProbe, TcpProbe
from meshd.xds.packing import duration, number, seconds, wrapped
from meshd.xds.unsupported import UnsupportedError, only

_Message = health_check_pb2.HealthCheck


def write(model: HealthCheck) -> health_check_pb2.HealthCheck:
    """The check. Envoy's rarer probes of clusters without traffic are turned off: they are not."""
    message = _Message(
        interval=duration(model.interval),
        timeout=duration(model.timeout),
        unhealthy_threshold=number(model.unhealthy_after),
        healthy_threshold=number(model.healthy_after),
        no_traffic_interval=duration(model.interval),
    )
    if isinstance(model.probe, TcpProbe):
        message.tcp_health_check.SetInParent()
    elif isinstance(model.probe, GrpcProbe):
        message.grpc_health_check.SetInParent()
        message.grpc_health_check.service_name = model.probe.service
        message.grpc_health_check.authority = model.probe.authority
    else:
        message.http_health_check.host, message.http_health_check.path = model.probe.host, model.probe.path
        message.http_health_check.expected_statuses.extend(
            range_pb2.Int64Range(start=first, end=last + 1) for first, last in model.probe.statuses
        )
    return message


def read(message: health_check_pb2.HealthCheck, port: int, name: str, where: str) -> HealthCheck:
    """The reverse of ``write``; ``port``: see above. Raises UnsupportedError."""
    only(
        message,
        {"interval", "timeout", "unhealthy_threshold", "healthy_threshold", "no_traffic_interval",
         "http_health_check", "tcp_health_check", "grpc_health_check"},
        name,
        where,
    )  # fmt: skip
    for field in ("interval", "timeout"):
        if seconds(message, field, 0.0) <= 0:
            raise UnsupportedError(name, f"{where}.{field}", "must be above 0")
    for field in ("unhealthy_threshold", "healthy_threshold"):
        if wrapped(message, field, 0) <= 0:
            raise UnsupportedError(name, f"{where}.{field}", "must be above 0")
    interval = seconds(message, "interval", 0.0)
    if seconds(message, "no_traffic_interval", interval) != interval:
        raise UnsupportedError(name, f"{where}.no_traffic_interval", "only as long as interval")
    return HealthCheck(
        probe=_probe(message, name, where),
        interval=interval,
        timeout=seconds(message, "timeout", 0.0),
        unhealthy_after=wrapped(message, "unhealthy_threshold", 0),
        healthy_after=wrapped(message, "healthy_threshold", 0),
        port=port,
    )


def _probe(message: health_check_pb2.HealthCheck, name: str, where: str) -> HttpProbe | TcpProbe | GrpcProbe:
    kind = message.WhichOneof("health_checker")
    if kind == "tcp_health_check":
        only(message.tcp_health_check, set(), name, f"{where}.{kind}")
        return TcpProbe()
    if kind == "grpc_health_check":
        only(message.grpc_health_check, {"service_name", "authority"}, name, f"{where}.{kind}")
        grpc = message.grpc_health_check
        return GrpcProbe(service=grpc.service_name, authority=grpc.authority)
    if kind != "http_health_check":
        raise UnsupportedError(name, f"{where}.health_checker", f"{kind or 'none'} is not supported")
    http, where = message.http_health_check, f"{where}.{kind}"
    only(http, {"host", "path", "expected_statuses", "codec_client_type"}, name, where)
    if http.codec_client_type != http_pb2.HTTP1:
        raise UnsupportedError(name, f"{where}.codec_client_type", "only HTTP1")
    if not http.path.startswith("/"):
        raise UnsupportedError(name, f"{where}.path", "must begin with a slash")
    for i, each in enumerate(http.expected_statuses):
        if not 100 <= each.start < each.end <= 600:
            raise UnsupportedError(name, f"{where}.expected_statuses[{i}]", "must be from 100 up to 600")
    statuses = tuple((int(each.start), int(each.end) - 1) for each in http.expected_statuses)
    default = HttpProbe(path=http.path, host=http.host)
    return HttpProbe(path=http.path, host=http.host, statuses=statuses or default.statuses)
