/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What bcc includes before everything else. The kernel's own would define CONFIG_* for the running
 * kernel; the programs use none of them but the one that bcc's helper header asks for.
 */
#ifndef MESHD_SHIM_KCONFIG_H
#define MESHD_SHIM_KCONFIG_H

#define CONFIG_BPF_SYSCALL 1

/* bcc carries a linux/bpf.h of its own; keep a second one out. */
#define __LINUX_BPF_H__

#endif
