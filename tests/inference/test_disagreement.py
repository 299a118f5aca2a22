import jax.numpy as jnp
import numpy as np

from dualrel_jax import config as config_lib
from dualrel_jax.inference.disagreement import DisagreementMethod, disagreement


def test_it_does_not_depend_on_what_is_predicted_beside_it():
    class Brightness:
        def predict(self, variables, image):
            return {"head": jnp.clip(image[..., 0] + 0.5, 0, 1)}

    method = DisagreementMethod(Brightness(), config_lib.get_config("supervised").augment)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 32, 32, 1)), jnp.float32)
    alone = method.predict(None, image)["default"]
    assert alone.max() > 0.01
    for one in method.predict(None, jnp.repeat(image, 3, axis=0))["default"]:
        np.testing.assert_allclose(one, alone[0], atol=1e-6)


def test_equal_predictions_have_no_disagreement_however_uncertain_they_are():
    unsure = jnp.full((4, 3, 3), 0.5)
    np.testing.assert_allclose(disagreement(unsure), 0, atol=1e-6)
    opposed = jnp.stack([jnp.zeros((3, 3)), jnp.ones((3, 3))])
    np.testing.assert_allclose(disagreement(opposed), 1, atol=1e-3)  # one bit
    rng = np.random.default_rng(0)
    p = rng.uniform(0.01, 0.99, (5, 7))
    both = np.stack([p, 1 - p])
    conditional = (both * np.log2(both / both.mean(axis=1, keepdims=True))).sum(axis=0).mean(axis=0)
    np.testing.assert_allclose(disagreement(jnp.asarray(p)), conditional, atol=1e-5)
