/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef MESHD_BALANCE_H
#define MESHD_BALANCE_H

#include "maps.h"

static __always_inline struct address_port *random_endpoint(const struct service *service)
{
	struct endpoint_key key = {.service = service->id, .generation = service->generation};

	if (!service->slots)
		return NULL;
	key.slot = service->first_slot + bpf_get_prandom_u32() % service->slots;
	return endpoints.lookup(&key);
}

/* An endpoint of the service at this VIP, each by its weight. NULL: it has none.
 *
 * A config change may show a new generation and remove the old one's slots between our two lookups:
 * then the service, read again, names the new generation.
 */
static __always_inline struct address_port *pick_endpoint(
	struct address_port *vip, const struct service *service)
{
	struct address_port *endpoint = random_endpoint(service);

	if (endpoint)
		return endpoint;
	service = services.lookup(vip);
	return service ? random_endpoint(service) : NULL;
}

#endif
