/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Which control group a process is in. */
#pragma once

/* Where version 1 is used: 1 and the number of the controller whose hierarchy is taken; 0: nowhere. */
const volatile __u32 cgroup_version1;

/* Of every hierarchy's root. */
#define CGROUP_ROOT 1
/* Added to ids of version 1, whose hierarchies count on their own. */
#define CGROUP_VERSION1 (1ULL << 52)

/*
 * The id of a task's group of version 2; where that is the root, as on hosts with version 1, of the group there. The branch
 * of other hosts is gone before the verifier looks.
 */
static __always_inline __u64 cgroup_of(struct task_struct *task)
{
	__u64 id = task->cgroups->dfl_cgrp->kn->id, other;
	struct cgroup_subsys_state *state = NULL;
	void *states;

	if (!cgroup_version1 || id != CGROUP_ROOT)
		return id;
	states = (void *)task->cgroups + bpf_core_field_offset(struct css_set, subsys);
	if (bpf_probe_read_kernel(&state, sizeof(state), states + (cgroup_version1 - 1) * sizeof(state)))
		return id;
	other = BPF_CORE_READ(state, cgroup, kn, id);
	return other > CGROUP_ROOT ? other | CGROUP_VERSION1 : id;
}
