export const lesson = [
  { key: "parts", title: "Looking at parts", text: [
    "A fully connected unit reads every pixel, each through a weight of its own. It has to learn anew what an edge is for every place where an edge may be, and the number of its weights grows with the picture.",
    "A convolution looks at one small part at a time, and uses the same few weights for every part. An edge is an edge wherever it is. Make the picture larger: only one of the two products grows.",
  ], after: ["Two ideas are in this: a unit sees only its neighbourhood, and all places share one set of weights."] },
  { key: "filter", title: "A filter, and Wx + b", text: [
    "A filter is a small table of weights `W`. Laid over a window `x` of the picture, each weight is multiplied by the pixel under it; the products are added up, and one more number, the bias `b`, is added: `Wx + b`.",
    "The numbers below are the ink of the picture at hand, from 0 to 15. Change a weight, or the bias, and see which sums follow.",
  ], after: ["Where the window looks like the filter, the sum is large. Where it looks like the opposite, it is far below zero. A filter is a question, and its map is the answer for every place."] },
  { key: "relu", title: "ReLU", text: [
    "After the sum comes a bend: `max(0, x)`. What is above zero passes, what is below becomes zero. Without it, two layers of sums would be one layer of sums, however many there are.",
    "Lower the bias, and only the strongest answers are left over the threshold.",
  ] },
  { key: "sliding", title: "Sliding", text: [
    "The same filter is laid over every window, row by row. Each stop gives one number, and these numbers make a new picture: the feature map.",
    "A 3 × 3 filter on 7 × 7 pixels finds five places in each direction. Let it walk, or point at a number of the map.",
  ] },
  { key: "stride", title: "Stride, and (N − F) / stride + 1", text: [
    "The filter may take longer steps. After the first window there is room for `N − F` more pixels; a step takes `stride` of them. So there are `(N − F) / stride + 1` places.",
    "With N = 7 and F = 3, stride 1 gives 5 and stride 2 gives 3. Stride 3 would give 2.33: the last pixels are then read by no window. They fade below. A filter larger than the picture has no place at all.",
  ] },
  { key: "padding", title: "Padding", text: [
    "Each layer would make the picture smaller, and the pixels at the border would be read less often than those in the middle. A frame of zeros around the picture can keep its size, and lets the border be read more often.",
    "With padding P the size is `(N − F + 2P) / stride + 1`. For stride 1, P = (F − 1) / 2 keeps the size: 1 for a filter of 3, 2 for one of 5.",
  ] },
  { key: "six", title: "Six filters on 32 × 32 × 3", text: [
    "A colour picture has three layers of numbers. A filter is as deep as what it reads: 5 × 5 × 3, which is 75 products for one value. Each filter gives one map, so six filters give six.",
    "`(32 − 5) / 1 + 1 = 28`: out come 28 × 28 × 6 numbers, a new picture with six “colours”, each of which says where its filter found what it looks for.",
  ] },
  { key: "depth", title: "Layers upon layers", text: [
    "The next layer reads those maps as this one read the colours. Its filters look for patterns of patterns: two edges that make a corner, corners that make a shape.",
    "And each unit sees more of the picture than the one before it. Step through the layers of this net: the frame on the left is what the unit on the right depends on.",
  ] },
  { key: "pooling", title: "Pooling", text: [
    "Where exactly an edge lies matters little to what is in the picture. Pooling keeps the largest value of each 2 × 2 window, and drops the other three. The maps become four times smaller; what was found stays found when it moves by a pixel, as long as it stays within its window.",
    "Pooling has no weights, and treats each channel by itself.",
  ] },
  { key: "end", title: "The fully connected end", text: [
    "At the end the maps are laid in one row, and fully connected layers weigh what was found: one score for each label. The scores become shares of one hundred percent by softmax: e is raised to each score, and each power is divided by the sum of all.",
    "Follow a label to the window of its score.",
  ] },
  { key: "meaning", title: "What convolution means", text: [
    "In mathematics a convolution makes one function of two: `(f ∗ g)(t) = ∫ f(τ) g(t − τ) dτ`. Read from the inside: g is turned round, and shifted by t; where it lies over f, the two are multiplied; and all the products are added up, which is the area under them. So each shift gives one number, and all shifts together a new function.",
    "Of samples, the integral becomes a sum of products: `(f ∗ g)[n] = Σ f[k] g[n − k]`. Move the shift, and point at the samples: the engine made every sum on the right, with the very convolution that it has for nets.",
  ], after: ["Nets do not turn the filter round: `Σ f[k] g[k − n]` is called cross-correlation. It asks how well g, as it is, fits on f at each place. A net learns its filters anyway, so for it a turned filter is as good. Where g looks the same from both sides, the two are one."],
  then: { key: "dot", title: "The same in two dimensions", text: [
    "On a picture, turning round means turning by 180°. A picture with a single dot shows the difference: convolution copies the filter as it is to wherever there is a dot, cross-correlation copies it turned. Turned so, order no longer matters: `f ∗ g = g ∗ f`.",
  ] } },
  { key: "learning", title: "Filters that learn", text: [
    "Nobody draws the filters of a net. They begin as noise. A picture goes in, the answer is compared with the wanted one, and every weight is moved a little in the direction that makes the difference smaller. Then again.",
    "Here one filter sees the picture at hand, and is told at each place what an edge filter would have answered. Step through its learning.",
  ], after: ["A net does the same with all its filters at once, and is told nothing but the label. What they become, the Window view shows."] },
];
