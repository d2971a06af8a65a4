"""Work fanned out over Ray: tasks, shared objects, processes that work as one."""
