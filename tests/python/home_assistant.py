"""Renders what a device tells Home Assistant, as Home Assistant does: with Jinja2, and with an error where it would warn.

Reads {"configs": […], "topics": {topic: payload}} on standard input; prints the values by unique id as JSON.
"""

import json
import sys

import jinja2

environment = jinja2.Environment(undefined=jinja2.StrictUndefined)


def render(template, payload):
    try:
        value = {"value": payload, "value_json": json.loads(payload)}
    except ValueError:
        value = {"value": payload}
    return environment.from_string(template).render(value)


def values(config, topics):
    available = config["avty"][0]
    assert render(available["val_tpl"], topics[available["t"]]) == "online", available
    for part in config["cmps"].values():
        if part["stat_t"] not in topics:
            continue
        value = render(part["val_tpl"], topics[part["stat_t"]])
        if part["p"] == "binary_sensor":
            assert value in ("ON", "OFF"), (part, value)
        if "stat_cla" in part:
            float(value)
        if "ops" in part:
            assert value in part["ops"], (part, value)
        assert len(value) <= 255, part
        if "json_attr_t" in part:
            attributes = json.loads(render(part["json_attr_tpl"], topics[part["json_attr_t"]]))
            assert isinstance(attributes, dict), part
        yield part["uniq_id"], value


asked = json.load(sys.stdin)
found = [value for config in asked["configs"] for value in values(config, asked["topics"])]
print(json.dumps(dict(found)))
