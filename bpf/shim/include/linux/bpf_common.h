/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Empty: the instruction set's encodings, which bcc's linux/bpf.h includes and no program here
 * writes by hand. */
#ifndef MESHD_SHIM_LINUX_BPF_COMMON_H
#define MESHD_SHIM_LINUX_BPF_COMMON_H
#endif
