/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Empty: bcc's helper header includes it, the programs need nothing of it. */
#ifndef MESHD_SHIM_LINUX_LOG2_H
#define MESHD_SHIM_LINUX_LOG2_H
#endif
