"""The mathematics and the models of denoising diffusion, on torch, numpy and (for one sampler) scipy.

process     the forward process, its posterior, the reverse process, the variational bound
samplers    the loop over t and the steps it takes
models      the noise-predicting U-Net, its average, the model file
training    randomness as a function, one training step, the reduction over workers
evaluation  bits per dimension and Fréchet distance with their errors

Each imports only those above it that it needs; `process` imports none.
"""
