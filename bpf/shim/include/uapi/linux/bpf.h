/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Empty: bcc includes its own copy of this header by itself. */
#ifndef MESHD_SHIM_UAPI_LINUX_BPF_H
#define MESHD_SHIM_UAPI_LINUX_BPF_H
#endif
