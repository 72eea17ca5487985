/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* FNV-1a of 64 bits, as user space makes it too (meshd/datapath/rules/fingerprint.py). */
#ifndef MESHD_FNV_H
#define MESHD_FNV_H

/* The hash of no bytes: that of the path prefix "/". */
#define FNV_BASIS 0xcbf29ce484222325ULL

static __always_inline u64 fnv(u64 hash, u8 next)
{
	return (hash ^ next) * 0x100000001b3ULL;
}

#endif
