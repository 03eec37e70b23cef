// The app: one screen that fits the model, one that proves it on this device.

import SwiftUI

@main
struct ProofApp: App {
    var body: some Scene {
        WindowGroup { RootView() }
    }
}

struct RootView: View {
    private let loaded = Result { try Plan.load() }

    var body: some View {
        switch loaded {
        case .success(let plan):
            TabView {
                screen(for: plan).tabItem { Label("Try", systemImage: "photo.on.rectangle") }
                if plan.kind == .classifier {
                    CameraScreen(plan: plan).tabItem { Label("Camera", systemImage: "camera") }
                }
                ProofScreen(plan: plan).tabItem { Label("Proof", systemImage: "checkmark.seal") }
            }
        case .failure(let error):
            Message(title: "The app is incomplete", text: error.localizedDescription)
        }
    }

    @ViewBuilder
    private func screen(for plan: Plan) -> some View {
        switch plan.kind {
        case .classifier: ClassifierScreen(plan: plan)
        case .image: ImageScreen(plan: plan)
        case .detector: DetectionScreen(plan: plan)
        case .array: ArrayScreen(plan: plan)
        }
    }
}

/// A title and a sentence in the middle of an empty screen.
struct Message: View {
    let title: String
    let text: String

    var body: some View {
        VStack(spacing: 8) {
            Text(title).font(.headline)
            Text(text).font(.subheadline).foregroundStyle(.secondary).multilineTextAlignment(.center)
        }
        .padding()
        .accessibilityElement(children: .combine)
    }
}
