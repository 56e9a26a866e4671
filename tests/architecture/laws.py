"""What each place may import of ours, from the ground up: `python -m tests.architecture.plan` prints what it does."""

from typing import Final

__all__ = ["LAW"]

LAW: Final = {
    "relay.secret": frozenset({"relay.errors"}),
    "relay.supervision": frozenset({"relay.clock", "relay.errors", "relay.notices"}),
    "relay.text": frozenset({"relay.notices"}),
    "relay.webhooks": frozenset({"relay.clock", "relay.errors"}),
    "relay.events": frozenset({"relay.errors", "relay.text"}),
    "relay.upstreams.settings": frozenset({"relay.secret"}),
    "web.request_failures": frozenset({"relay.notices", "relay.text"}),
    "relay.jobs": frozenset({"relay.errors", "relay.events", "relay.text"}),
    "relay.upstreams.task_round": frozenset({"relay.errors", "relay.jobs"}),
    "relay.pace": frozenset({"relay.errors", "relay.events"}),
    "relay.queue": frozenset({"relay.clock", "relay.errors", "relay.events", "relay.notices"}),
    "relay.wire": frozenset({"relay.errors", "relay.events", "relay.text"}),
    "relay.audit": frozenset({"relay.errors", "relay.events", "relay.text", "relay.wire"}),
    "relay.journal": frozenset(
        {
            "relay.errors",
            "relay.events",
            "relay.jobs",
            "relay.notices",
            "relay.secret",
            "relay.text",
            "relay.wire",
        }
    ),
    "relay.upstreams.base": frozenset({"relay.events", "relay.jobs", "relay.pace", "relay.supervision"}),
    "relay.upstreams.reading": frozenset({"relay.clock", "relay.errors", "relay.events", "relay.jobs", "relay.text"}),
    "relay.bus": frozenset(
        {"relay.clock", "relay.errors", "relay.events", "relay.jobs", "relay.journal", "relay.notices", "relay.wire"}
    ),
    "relay.durable": frozenset(
        {
            "relay._exports",
            "relay.clock",
            "relay.errors",
            "relay.events",
            "relay.journal",
            "relay.notices",
            "relay.queue",
            "relay.supervision",
        }
    ),
    "relay.upstreams.http": frozenset(
        {
            "relay.clock",
            "relay.errors",
            "relay.events",
            "relay.jobs",
            "relay.pace",
            "relay.secret",
            "relay.text",
            "relay.upstreams.base",
            "relay.upstreams.reading",
            "relay.upstreams.settings",
            "relay.wire",
        }
    ),
    "relay.attachments": frozenset(
        {
            "relay.bus",
            "relay.clock",
            "relay.durable",
            "relay.errors",
            "relay.events",
            "relay.jobs",
            "relay.notices",
            "relay.queue",
            "relay.supervision",
            "relay.wire",
        }
    ),
    "relay.polling": frozenset(
        {
            "relay.bus",
            "relay.clock",
            "relay.errors",
            "relay.events",
            "relay.jobs",
            "relay.notices",
            "relay.pace",
            "relay.text",
            "relay.upstreams.base",
        }
    ),
    "relay.cluster": frozenset(
        {
            "relay._exports",
            "relay.bus",
            "relay.clock",
            "relay.errors",
            "relay.events",
            "relay.jobs",
            "relay.journal",
            "relay.notices",
            "relay.polling",
            "relay.supervision",
            "relay.upstreams.base",
        }
    ),
    "relay.upstreams.per_task": frozenset(
        {
            "relay.errors",
            "relay.events",
            "relay.jobs",
            "relay.text",
            "relay.upstreams.http",
            "relay.upstreams.reading",
            "relay.upstreams.settings",
            "relay.upstreams.task_round",
        }
    ),
    "sinks": frozenset(
        {
            "relay._exports",
            "relay.clock",
            "relay.errors",
            "relay.events",
            "relay.notices",
            "relay.queue",
            "relay.secret",
            "relay.text",
            "relay.upstreams.http",
            "relay.wire",
        }
    ),
    "relay.relay": frozenset(
        {
            "relay.attachments",
            "relay.bus",
            "relay.clock",
            "relay.cluster",
            "relay.errors",
            "relay.events",
            "relay.jobs",
            "relay.journal",
            "relay.notices",
            "relay.pace",
            "relay.polling",
            "relay.supervision",
            "relay.upstreams.base",
            "relay.webhooks",
            "relay.wire",
        }
    ),
    "relay.upstreams.declared": frozenset(
        {
            "relay.errors",
            "relay.events",
            "relay.hints",
            "relay.jobs",
            "relay.secret",
            "relay.upstreams.http",
            "relay.upstreams.per_task",
            "relay.upstreams.reading",
            "relay.upstreams.settings",
        }
    ),
    "relay.upstreams.dialects": frozenset(
        {
            "relay.clock",
            "relay.errors",
            "relay.events",
            "relay.hints",
            "relay.jobs",
            "relay.secret",
            "relay.supervision",
            "relay.upstreams.base",
            "relay.upstreams.http",
            "relay.upstreams.per_task",
            "relay.upstreams.reading",
            "relay.upstreams.settings",
        }
    ),
    "relay": frozenset(
        {
            "relay._exports",
            "relay.attachments",
            "relay.bus",
            "relay.errors",
            "relay.events",
            "relay.jobs",
            "relay.journal",
            "relay.pace",
            "relay.relay",
        }
    ),
    "relay.upstreams.registry": frozenset(
        {
            "relay._exports",
            "relay.upstreams.declared",
            "relay.upstreams.dialects",
            "relay.upstreams.http",
            "relay.upstreams.settings",
        }
    ),
    "relay.config": frozenset(
        {
            "relay._exports",
            "relay.errors",
            "relay.events",
            "relay.hints",
            "relay.journal",
            "relay.secret",
            "relay.upstreams.registry",
            "relay.upstreams.settings",
        }
    ),
    "relay.testing.conformance": frozenset(
        {
            "relay",
            "relay.attachments",
            "relay.bus",
            "relay.clock",
            "relay.events",
            "relay.jobs",
            "relay.notices",
            "relay.upstreams.base",
            "relay.upstreams.http",
            "relay.upstreams.reading",
            "relay.wire",
        }
    ),
    "relay.testing.scripted": frozenset({"relay", "relay.clock", "relay.events", "relay.jobs"}),
    "relay.upstreams": frozenset(
        {
            "relay._exports",
            "relay.upstreams.base",
            "relay.upstreams.declared",
            "relay.upstreams.per_task",
            "relay.upstreams.registry",
        }
    ),
    "web.app_keys": frozenset({"relay"}),
    "web.state_snapshot": frozenset({"relay", "web.turn_queue"}),
    "web.tls": frozenset({"relay", "relay.clock", "relay.notices"}),
    "relay.testing": frozenset(
        {"relay._exports", "relay.testing.clock", "relay.testing.conformance", "relay.testing.scripted"}
    ),
    "web.access": frozenset(
        {"relay", "relay.clock", "relay.config", "relay.notices", "relay.text", "relay.upstreams.http"}
    ),
    "relay.testing.pytest_plugin": frozenset({"relay.testing"}),
    "web.middleware": frozenset(
        {
            "relay",
            "relay.clock",
            "relay.notices",
            "relay.supervision",
            "relay.text",
            "web.access",
            "web.app_keys",
            "web.request_failures",
            "web.running_time",
            "web.unread",
        }
    ),
    "web.bodies": frozenset({"web.memory", "web.middleware"}),
    "web.page": frozenset({"web.middleware"}),
    "web.path_params": frozenset({"relay", "web.access", "web.app_keys", "web.middleware"}),
    "web.request_heads": frozenset({"relay.text", "web.memory", "web.middleware", "web.request_failures"}),
    "web.peeked_request": frozenset({"web.request_heads"}),
    "web.bulk_accept": frozenset({"web.peeked_request", "web.request_failures"}),
    "web.stream_lane": frozenset(
        {
            "relay",
            "web.app_keys",
            "web.middleware",
            "web.page",
            "web.peeked_request",
            "web.request_failures",
            "web.streaming",
        }
    ),
    "web.server": frozenset(
        {
            "relay.clock",
            "relay.notices",
            "relay.supervision",
            "web.app_keys",
            "web.bulk_accept",
            "web.memory",
            "web.middleware",
            "web.peeked_request",
            "web.request_failures",
            "web.request_heads",
            "web.stream_lane",
            "web.tls",
        }
    ),
    "web.sessions": frozenset({"relay.config", "web.access", "web.bodies", "web.middleware", "web.path_params"}),
    "web.sinks": frozenset(
        {
            "relay",
            "relay.bus",
            "relay.config",
            "relay.text",
            "web.access",
            "web.app_keys",
            "web.bodies",
            "web.middleware",
        }
    ),
    "web.streaming": frozenset(
        {
            "relay",
            "relay.bus",
            "relay.events",
            "relay.notices",
            "relay.queue",
            "sinks",
            "web.access",
            "web.app_keys",
            "web.middleware",
            "web.path_params",
            "web.request_failures",
            "web.running_time",
            "web.state_snapshot",
            "web.turn_queue",
        }
    ),
    "web.webhooks": frozenset({"relay", "relay.webhooks", "web.app_keys", "web.bodies", "web.middleware"}),
    "web.gateway": frozenset(
        {
            "relay",
            "relay.config",
            "relay.events",
            "relay.hints",
            "relay.text",
            "relay.upstreams",
            "relay.upstreams.http",
            "sinks",
            "web.access",
            "web.app_keys",
            "web.bodies",
            "web.middleware",
            "web.path_params",
            "web.streaming",
        }
    ),
    "web.health": frozenset({"web.app_keys", "web.middleware", "web.streaming"}),
    "web.waiting": frozenset({"web.health", "web.middleware"}),
    "web.jobs": frozenset(
        {
            "relay",
            "web.access",
            "web.app_keys",
            "web.bodies",
            "web.middleware",
            "web.path_params",
            "web.state_snapshot",
            "web.streaming",
        }
    ),
    "web.metrics": frozenset(
        {
            "relay",
            "relay.bus",
            "web.app_keys",
            "web.metric_table",
            "web.middleware",
            "web.request_failures",
            "web.streaming",
        }
    ),
    "web.app": frozenset(
        {
            "relay",
            "relay.config",
            "relay.notices",
            "web.access",
            "web.app_keys",
            "web.bodies",
            "web.gateway",
            "web.health",
            "web.jobs",
            "web.memory",
            "web.metrics",
            "web.middleware",
            "web.page",
            "web.request_failures",
            "web.sessions",
            "web.sinks",
            "web.stream_lane",
            "web.streaming",
            "web.turn_queue",
            "web.webhooks",
        }
    ),
    "web": frozenset({"relay._exports", "web.access", "web.app"}),
    "relay.cli": frozenset(
        {
            "relay",
            "relay.attachments",
            "relay.audit",
            "relay.clock",
            "relay.cluster",
            "relay.config",
            "relay.events",
            "relay.hints",
            "relay.jobs",
            "relay.journal",
            "relay.notices",
            "relay.pace",
            "relay.secret",
            "relay.supervision",
            "relay.testing",
            "relay.text",
            "relay.upstreams",
            "relay.upstreams.base",
            "relay.upstreams.declared",
            "relay.upstreams.registry",
            "relay.upstreams.settings",
            "relay.webhooks",
            "relay.wire",
            "sinks",
            "web",
            "web.access",
            "web.gateway",
            "web.middleware",
            "web.server",
            "web.tls",
            "web.waiting",
        }
    ),
}
