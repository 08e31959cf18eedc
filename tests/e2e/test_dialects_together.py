"""Many streams of every dialect at once."""


def test_a_thousand_streams_of_mixed_dialects_end_whole(coordinator, swarm):
    node = coordinator({"accounts": {"first_grant_usd": "1000"}})
    load = swarm(node, "run", providers=64, clients=1000, requests=2000, chunks=10, dialect="mixed", stream=True)
    result = load.result()
    assert (result["ok"], result["failed"], result["incomplete"]) == (2000, 0, 0)
    node.wait_idle()
    usage = node.metrics()
    for path in ("chat/completions", "responses", "completions", "messages"):
        assert usage[f'http_requests_total{{method="POST",path="/v1/{path}",status="200"}}'] == 500
    node.check_books()
