// Boxes: what a detector found, out of its rows of coordinates and scores.

import Foundation

struct Box: Sendable {
    /// Shares of the picture's width and height, from its upper left corner.
    let left: Float
    let top: Float
    let right: Float
    let bottom: Float
    let index: Int
    let score: Float

    /// Intersection over union.
    func overlap(_ other: Box) -> Float {
        let width = min(right, other.right) - max(left, other.left)
        let height = min(bottom, other.bottom) - max(top, other.top)
        guard width > 0, height > 0 else { return 0 }
        let both = width * height
        return both / ((right - left) * (bottom - top) + (other.right - other.left) * (other.bottom - other.top) - both)
    }
}

extension Plan.Boxes {
    /// The boxes above the threshold, likeliest first; of those that overlap much and are of one class, the likeliest alone.
    func read(_ outputs: [String: [Float]], width: Int, height: Int, threshold: Float = 0.3, most: Int = 50) -> [Box] {
        guard let rows = outputs[coordinates], let likely = outputs[scores], rows.count >= 4 else { return [] }
        let count = rows.count / 4
        let classes = likely.count / count
        let first = background ? 1 : 0
        guard classes > first else { return [] }
        var found: [Box] = []
        for i in 0..<count {
            let own = Array(likely[(i * classes + first)..<((i + 1) * classes)])
            let best = Floats.best(own)
            guard own[best] > threshold else { continue }
            found.append(box(Array(rows[(4 * i)..<(4 * i + 4)]), index: best, score: own[best], width, height))
        }
        found.sort { $0.score > $1.score }
        var kept: [Box] = []
        for box in found where kept.count < most && !kept.contains(where: { $0.index == box.index && $0.overlap(box) > 0.45 }) {
            kept.append(box)
        }
        return kept
    }

    private func box(_ row: [Float], index: Int, score: Float, _ width: Int, _ height: Int) -> Box {
        let (across, down): (Float, Float) = pixels ? (Float(width), Float(height)) : (1, 1)
        let (a, b, c, d) = (row[0] / across, row[1] / down, row[2] / across, row[3] / down)
        return centred
            ? Box(left: a - c / 2, top: b - d / 2, right: a + c / 2, bottom: b + d / 2, index: index, score: score)
            : Box(left: a, top: b, right: c, bottom: d, index: index, score: score)
    }
}
