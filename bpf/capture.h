/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What becomes of a connect(2). The decision is taken here for both address families. */
#ifndef MESHD_CAPTURE_H
#define MESHD_CAPTURE_H

#include "address.h"
#include "balance.h"
#include "joined.h"
#include "liveness.h"
#include "maps.h"
#include "stats.h"

enum verdict {
	LEAVE,	 /* nothing of ours: the destination stays as it is */
	REWRITE, /* the destination has been replaced */
	REFUSE,	 /* connect(2) fails with ECONNREFUSED */
};

/* A socket bound to a device can reach loopback only if that device is the loopback. */
static __always_inline bool bound_to_device(struct bpf_sock *sk)
{
	return sk->bound_dev_if && sk->bound_dev_if != LOOPBACK_IFINDEX;
}

static __always_inline bool remember(struct bpf_sock *sk, const struct address_port *destination,
	enum captured captured, bool joined)
{
	struct origin *origin = origins.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!origin) {
		COUNT(no_memory);
		return false;
	}
	origin->destination = *destination;
	origin->captured = captured;
	origin->joined = joined;
	return true;
}

static __always_inline enum verdict to_endpoint(struct bpf_sock *sk, const struct settings *config,
	const struct member *member, const struct service *service,
	struct address_port *destination)
{
	struct address_port *endpoint = pick_endpoint(destination, service);
	bool joined;

	if (!endpoint) {
		COUNT(no_endpoint);
		return REFUSE;
	}
	joined = service->protocol == PROTOCOL_TCP &&
		 wants_joining(config, member, service, endpoint);
	/* Without the record the connection still works; only getpeername(2) shows the endpoint. */
	remember(sk, destination, CAPTURED_NOT, joined);
	*destination = *endpoint;
	return REWRITE;
}

static __always_inline bool to_proxy(struct bpf_sock *sk, const struct member *member,
	const struct service *service, struct address_port *destination)
{
	bool http = service->protocol == PROTOCOL_HTTP;
	bool ipv4 = is_ipv4(destination);
	__u16 port = ipv4 ? member->port4 : member->port6;

	if (!remember(sk, destination, http ? CAPTURED_HTTP : CAPTURED_RELAYED, false))
		return false;
	if (ipv4) {
		set_ipv4(destination, LOOPBACK4, port);
	} else {
		destination->address[0] = 0;
		destination->address[1] = 0;
		destination->address[2] = 0;
		destination->address[3] = bpf_htonl(1);
		destination->port = port;
	}
	return true;
}

/* Whether the in-pod listener can take a connection from this socket. */
static __always_inline bool proxy_reachable(struct bpf_sock *sk, const struct member *member,
	const struct address_port *destination, const struct settings *config)
{
	if (!(is_ipv4(destination) ? member->port4 : member->port6))
		return false;
	if (bound_to_device(sk)) {
		COUNT(bound_to_device);
		return false;
	}
	return proxy_alive(config);
}

/* Decides on a connect to *destination, which REWRITE replaces. */
static __always_inline enum verdict capture(
	struct bpf_sock_addr *ctx, struct address_port *destination)
{
	struct bpf_sock *sk = ctx->sk;
	struct settings *config;
	struct service *service;
	struct member *member;
	u64 netns;
	u32 zero = 0;

	if (!sk || ctx->type != SOCK_STREAM || ctx->protocol != IPPROTO_TCP)
		return LEAVE;

	/* The socket may have been connected before: what it asked for then is no longer true. */
	origins.sk_storage_delete(sk);

	netns = bpf_get_netns_cookie(ctx);
	member = members.lookup(&netns);
	if (!member)
		return LEAVE;
	config = settings.lookup(&zero);
	if (!config ||
		(config->mark && (sk->mark == config->mark || sk->mark == config->plain_mark)))
		return LEAVE;
	service = services.lookup(destination);
	if (!service)
		return LEAVE;
	/* Not atomic: whoever is last is as good as another. */
	service->used = bpf_ktime_get_ns();

	if (service->protocol == PROTOCOL_TCP) {
		if (to_endpoint(sk, config, member, service, destination) == REWRITE) {
			COUNT(balanced);
			return REWRITE;
		}
		/* Where the service has just gone out of use, the proxy takes it from here. */
		service = services.lookup(destination);
		if (!service || service->protocol == PROTOCOL_TCP)
			return REFUSE;
	}

	if (proxy_reachable(sk, member, destination, config) &&
		to_proxy(sk, member, service, destination)) {
		COUNT(captured);
		return REWRITE;
	}
	if (service->failure_policy == FAILURE_POLICY_CLOSED) {
		COUNT(failed_closed);
		return REFUSE;
	}
	COUNT(failed_open);
	/* What is behind the mesh may serve a service whose endpoints we do not know. */
	return service->slots ? to_endpoint(sk, config, member, service, destination) : LEAVE;
}

#endif
