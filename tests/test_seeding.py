from ddpm_pairs.seeding import seed_of


def test_seeds_are_pinned():
    # int(hashlib.blake2b(b"0\x1fa/b\x1fnoise", digest_size=8).hexdigest(), 16) % 2**63
    assert seed_of(0, "a/b", "noise") == 1092930012942391418
    assert seed_of("0", "a/b", "noise") == 1092930012942391418


def test_parts_do_not_run_together():
    seeds = {seed_of("a", "b"), seed_of("ab"), seed_of("b", "a"), seed_of("a", "b", ""), seed_of(1, 11), seed_of(11, 1)}
    assert len(seeds) == 6


def test_seeds_fit_torch_and_numpy():
    assert all(0 <= seed_of(i) < 2**63 for i in range(1000))
    assert max(seed_of(i) for i in range(1000)) > 2**62
