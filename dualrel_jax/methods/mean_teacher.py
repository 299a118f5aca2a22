"""Mean Teacher (Tarvainen and Valpola, NeurIPS 2017): consistency with the moving average of the weights."""

from dualrel_jax.methods import batching, losses
from dualrel_jax.methods.base import Method, compute, diagnose
from dualrel_jax.methods.ramps import sigmoid_ramp


class MeanTeacher(Method):
    """Squared error between the student on the strong view and the teacher on the weak view of the same crop."""

    strong_views = 1

    def loss(self, variables, teacher, batch, rng, step):
        images, split = batching.join(batch.image, batch.strong[0])
        output, variables = self.apply_train("student", variables, images)
        labelled, unlabelled = split(output.logits)
        target = losses.softmax(self.apply_teacher("student", teacher, batch.weak).logits)

        terms = {
            "supervised": lambda: losses.supervised(labelled, batch.label),
            "consistency": lambda: losses.masked_mean(losses.squared_error(losses.softmax(unlabelled), target)),
        }
        terms = compute(terms)
        weight = self.config.consistency_weight * sigmoid_ramp(step, self.ramp_steps)
        total = terms["supervised"] + weight * terms["consistency"]
        return total, (diagnose(total, terms, weight), variables)
