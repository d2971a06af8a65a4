"""Fan work out over Ray: tasks, shared objects, distributed workers."""
