"""Echo upstreams in raw JSON, fast enough never to be what is measured."""
